-- Rows that select_full_snapshot.sql leaves out because they have a comment.
-- Parameters: those of select_full_snapshot.sql.
SELECT
    feedback_id,
    hashtextextended(user_id, :hash_seed) AS user_hash,
    hashtextextended(item_id, :hash_seed) AS item_hash,
    hashtextextended(event_type, :hash_seed) AS event_type_hash,
    value,
    occurred_at,
    comment
FROM feedback
WHERE transaction_id < :upper_transaction_id
    AND isfinite(occurred_at)
    AND comment IS NOT NULL
