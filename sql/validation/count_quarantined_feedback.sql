-- Count a window's rows in quarantine.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT count(*) FROM quarantine
WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
