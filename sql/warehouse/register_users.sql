-- Add those of the given users who do not exist yet. Every session inserts in the same order, so that two loads cannot
-- deadlock.
-- Parameters: user_ids, consent.
INSERT INTO users (user_id, consent)
SELECT user_id, :consent
FROM unnest(CAST(:user_ids AS text[])) AS named (user_id)
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = named.user_id)
ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING
