-- Users that feedback names for the first time. In one order for everyone, so that two files that are
-- read at once cannot wait for each other. Parameters: consent
INSERT INTO users (user_id, consent)
SELECT DISTINCT user_id, :consent
FROM incoming_feedback
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = incoming_feedback.user_id)
ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING
