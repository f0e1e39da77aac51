-- Count a window's rows in quarantine, without those of accounts that only pushed an item: an attack that was found
-- must not stop the loop.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT count(*) FROM quarantine
WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
    AND reasons <> ARRAY['pushed_by_newcomers']
