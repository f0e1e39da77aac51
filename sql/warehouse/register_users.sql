-- Users whom feedback names for the first time. In one order for everyone, so that two files that are
-- read at once cannot wait for each other. Parameters: user_ids, consent
INSERT INTO users (user_id, consent)
SELECT user_id, :consent
FROM unnest(CAST(:user_ids AS text[])) AS named (user_id)
WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = named.user_id)
ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING
