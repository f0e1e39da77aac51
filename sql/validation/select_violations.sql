-- Rows of a window that break rules: those recorded now, and those that are already in quarantine because of an earlier
-- attempt or another consumer.
-- Parameters: window_id, lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT feedback_id, reasons
FROM row_violations
WHERE window_id = :window_id
UNION ALL
SELECT feedback_id, reasons
FROM quarantine
WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
