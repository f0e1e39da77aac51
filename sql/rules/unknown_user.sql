-- What: Feedback of a user who is not in the table users.
-- Why: Consent is recorded there: without it the event may not be used, and nobody could be recommended to.
-- Reason: unknown_user
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'unknown_user' AS reason
FROM batch
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = batch.user_id)
