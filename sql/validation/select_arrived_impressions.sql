-- Slates between two bounds.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT * FROM impressions
WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
