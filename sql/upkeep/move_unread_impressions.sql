-- After a restore: give new transaction ids to impressions that were written before the counter was raised, as
-- move_unread_feedback does. A dump of a release whose impressions have no transaction id yet stays as it is.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = 'impressions'::regclass AND attname = 'transaction_id'
    ) THEN
        RETURN;
    END IF;
    UPDATE impressions
    SET transaction_id = warehouse_transaction_id()
    WHERE transaction_id BETWEEN 1 AND (SELECT max(upper_transaction_id) - 1 FROM windows)
        AND received_at > (
            SELECT max(opened_at) FROM windows WHERE upper_transaction_id > lower_transaction_id
        );
END $$
