-- Feedback that a full fine-tune may know: every row below the window's upper bound. Rows that broke a rule are in
-- quarantine by now. A plain scan, as fast as Postgres reads: whoever reads the result leaves out rows of unknown
-- items and types and of users who are not to be trained on, and finds names, keys and weights in what
-- select_full_snapshot_users.sql and its like return in the same transaction.
-- Every value has eight bytes and none is null (NaN: no value), so that all rows are equally long; those with a
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
