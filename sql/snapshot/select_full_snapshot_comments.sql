-- The rows that select_full_snapshot.sql leaves out because they have a comment.
-- Times are limited to the years that the reader of CSV knows. Only rows that validation has not checked yet lie
-- outside.
-- Parameters: those of select_full_snapshot.sql.
SELECT
    feedback_id,
    hashtextextended(user_id, :hash_seed) AS user_hash,
    hashtextextended(item_id, :hash_seed) AS item_hash,
    hashtextextended(event_type, :hash_seed) AS event_type_hash,
    value,
    least(greatest(occurred_at, '0001-01-01 UTC'), '9999-12-31 UTC') AS occurred_at,
    comment
FROM feedback
WHERE transaction_id < :upper_transaction_id
    AND isfinite(occurred_at)
    AND comment IS NOT NULL
