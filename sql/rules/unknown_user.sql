-- What: Feedback of a user who is not in the table users.
-- Why: Consent is recorded there: without it the event may not be used, and nobody could be recommended to.
-- Reason: unknown_user
-- Scan: shared
SELECT batch.feedback_id, 'unknown_user' AS reason
FROM {batch} AS batch
WHERE NOT batch.user_is_known
