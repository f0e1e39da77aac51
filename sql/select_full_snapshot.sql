-- Feedback that a full fine-tune may know: every row of consenting users below the window's upper bound.
-- Rows that broke a rule are in quarantine by now. A plain scan, as fast as Postgres reads: whoever reads the
-- result leaves out rows of unknown items and types and of users who are not to be trained on, and finds keys
-- and weights in what select_full_snapshot_users.sql returns in the same transaction.
-- Parameters: upper_transaction_id (exclusive), hash_seed.
SELECT
    feedback_id,
    hashtextextended(user_id, :hash_seed) AS user_hash,
    item_id,
    event_type,
    value,
    comment,
    occurred_at
FROM feedback
WHERE transaction_id < :upper_transaction_id
    AND isfinite(occurred_at)
