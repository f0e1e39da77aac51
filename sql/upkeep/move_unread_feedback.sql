-- After a restore: give new transaction ids to rows that were written before the counter was raised, because every
-- consumer has already read past their ids. They are the rows that arrived after the last window with any
-- transaction.
UPDATE feedback
SET transaction_id = warehouse_transaction_id()
WHERE transaction_id < (SELECT max(upper_transaction_id) FROM windows)
    AND received_at > (
        SELECT max(opened_at) FROM windows WHERE upper_transaction_id > lower_transaction_id
    )
