-- Count a window's rows in quarantine by the set of rules that they broke.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT reasons, count(*) AS rows
FROM quarantine
WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
GROUP BY reasons
