-- Add users whom the incoming feedback names for the first time. Every session inserts in the same order, so that two
-- loads cannot deadlock.
-- Parameter: consent.
INSERT INTO users (user_id, consent)
SELECT DISTINCT user_id, :consent
FROM incoming_feedback
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = incoming_feedback.user_id)
ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING
