-- After a restore: rows that were written before the counting was raised lie where every consumer has
-- read already. They are known by their arrival after the last window that held any transaction.
UPDATE feedback
SET transaction_id = warehouse_transaction_id()
WHERE transaction_id < (SELECT max(upper_transaction_id) FROM windows)
    AND received_at > (
        SELECT max(opened_at) FROM windows WHERE upper_transaction_id > lower_transaction_id
    )
