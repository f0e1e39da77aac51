-- Keys of the users whose feedback select_full_snapshot.sql returns, in the order of its user_number.
SELECT user_key
FROM users
WHERE consent
    AND user_key IS NOT NULL
    AND user_id <> ALL (ARRAY(SELECT user_id FROM erasure_requests WHERE user_id IS NOT NULL))
ORDER BY user_id
