-- Snapshots of a kind that hold only what a model has trained on and something that earlier snapshots do not, newest
-- first. Some of their files may already be deleted.
-- Parameters: kind, trained_transaction_id, trained_occurred_before (what the model has trained on, exclusive),
--   after_transaction_id.
SELECT uri
FROM snapshots
WHERE kind = :kind
    AND trained_transaction_id <= :trained_transaction_id
    AND trained_transaction_id > :after_transaction_id
    AND trained_occurred_before <= :trained_occurred_before
ORDER BY trained_transaction_id DESC, snapshot_id DESC
