-- Add users whom the incoming feedback names for the first time, and visitors of its sessions. Every session of Postgres
-- inserts in the same order, so that two loads cannot deadlock.
-- Parameter: consent.
INSERT INTO users (user_id, kind, consent)
SELECT DISTINCT
    user_id,
    CASE WHEN user_id = visitor_id(session_id) THEN 'visitor' ELSE 'user' END,
    :consent
FROM incoming_feedback
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = incoming_feedback.user_id)
    AND (session_id IS NULL OR user_id <> visitor_id(session_id) OR NOT is_missing_session(session_id))
ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING
