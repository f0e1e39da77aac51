-- Keys of the users whose feedback select_full_snapshot.sql returns, in the order of its user_number, and what
-- the feedback of each weighs: of users whose noise was left in, the share that is none, but never less than
-- the floor.
-- Parameters: upper_transaction_id (exclusive), min_noisy_weight.
SELECT users.user_key, coalesce(noise.weight, 1)::real AS weight
FROM users
LEFT JOIN (
    SELECT noisy.user_id, greatest(:min_noisy_weight, 1 - noisy.rows / given.rows) AS weight
    FROM (
        SELECT user_id, count(*)::double precision AS rows
        FROM noisy_feedback
        WHERE transaction_id < :upper_transaction_id
        GROUP BY user_id
    ) AS noisy
    CROSS JOIN LATERAL (
        SELECT greatest(count(*), 1) AS rows
        FROM feedback
        WHERE feedback.user_id = noisy.user_id AND feedback.transaction_id < :upper_transaction_id
    ) AS given
) AS noise ON noise.user_id = users.user_id
WHERE users.consent
    AND users.user_key IS NOT NULL
    AND users.user_id <> ALL (ARRAY(SELECT user_id FROM erasure_requests WHERE user_id IS NOT NULL))
ORDER BY users.user_id
