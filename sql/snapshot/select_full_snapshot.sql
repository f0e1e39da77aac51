-- Feedback for a full fine-tune: every row below the window's upper bound. Rows that broke a rule are already in
-- quarantine. This is a plain scan, as fast as Postgres reads. The reader drops rows of unknown items and types and of
-- users who may not be trained on. It gets names, keys and weights from select_full_snapshot_users.sql,
-- select_full_snapshot_items.sql and select_full_snapshot_event_types.sql in the same transaction.
-- Every value has eight bytes and none is null (NaN: no value), so that all rows have the same length. Rows with a
-- comment are in select_full_snapshot_comments.sql.
-- Parameters: upper_transaction_id (exclusive), hash_seed.
SELECT
    feedback_id,
    hashtextextended(user_id, :hash_seed) AS user_hash,
    hashtextextended(item_id, :hash_seed) AS item_hash,
    hashtextextended(event_type, :hash_seed) AS event_type_hash,
    coalesce(value, 'NaN') AS value,
    occurred_at
FROM feedback
WHERE transaction_id < :upper_transaction_id
    AND isfinite(occurred_at)
    AND comment IS NULL
