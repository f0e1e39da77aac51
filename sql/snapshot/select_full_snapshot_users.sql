-- All users by the hash that select_full_snapshot.sql gives for them; the key of those who may be trained on,
-- null for the others; and what the feedback of each weighs: of users whose noise was left in, the share that
-- is none, but never less than the floor.
-- Parameters: upper_transaction_id (exclusive), min_noisy_weight, hash_seed.
SELECT
    hashtextextended(users.user_id, :hash_seed) AS hash,
    CASE WHEN users.may_train THEN users.user_key END AS name,
    coalesce(noise.weight, 1)::real AS weight
FROM user_eligibility AS users
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
