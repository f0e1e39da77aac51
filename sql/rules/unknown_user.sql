-- What: Feedback of a user who is not in the table users.
-- Why: Consent is recorded there. Without it the event may not be used, and the user cannot get recommendations.
-- Reason: unknown_user
-- Scan: shared
SELECT batch.feedback_id, 'unknown_user' AS reason
FROM {batch} AS batch
WHERE NOT batch.user_is_known
