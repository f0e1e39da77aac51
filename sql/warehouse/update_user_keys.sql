-- Store the keyed hashes of users who have none.
-- Parameters: user_ids, user_keys (arrays of the same length).
UPDATE users
SET user_key = keyed.user_key
FROM unnest(CAST(:user_ids AS text[]), CAST(:user_keys AS text[])) AS keyed (user_id, user_key)
WHERE users.user_id = keyed.user_id AND users.user_key IS NULL
