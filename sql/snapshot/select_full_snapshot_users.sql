-- All users with the hashes that select_full_snapshot.sql uses for them, with their keys (null for users who may not be
-- trained on) and the weight of their feedback. If noise of a user was kept, the weight is the share of the user's
-- feedback that is not noise, but at least min_noisy_weight.
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
