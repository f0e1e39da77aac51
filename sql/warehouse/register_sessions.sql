-- Add the visitors of those of the given sessions that have none yet and whose id does not say that there is none. Every
-- session of Postgres inserts in the same order, so that two loads cannot deadlock.
-- Parameters: session_ids, consent.
INSERT INTO users (user_id, kind, consent)
SELECT visitor_id(session_id), 'visitor', :consent
FROM unnest(CAST(:session_ids AS text[])) AS named (session_id)
WHERE NOT is_missing_session(session_id)
    AND NOT EXISTS (SELECT FROM users WHERE users.user_id = visitor_id(named.session_id))
ORDER BY 1
ON CONFLICT (user_id) DO NOTHING
