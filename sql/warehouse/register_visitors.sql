-- Add the visitors of a window's sessions to users, except those whose session id says that there is none. Every
-- session of Postgres inserts in the same order, so that two runs cannot deadlock.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive), consent.
INSERT INTO users (user_id, kind, consent)
SELECT DISTINCT feedback.user_id, 'visitor', :consent
FROM feedback
WHERE feedback.transaction_id >= :lower_transaction_id
    AND feedback.transaction_id < :upper_transaction_id
    AND feedback.session_id IS NOT NULL
    AND feedback.user_id = visitor_id(feedback.session_id)
    AND NOT is_missing_session(feedback.session_id)
    AND NOT EXISTS (SELECT FROM users WHERE users.user_id = feedback.user_id)
ORDER BY feedback.user_id
ON CONFLICT (user_id) DO NOTHING
