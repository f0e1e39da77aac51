-- Lower bound of the consumer's latest earlier window with feedback; of this window if there is none.
-- Parameters: consumer, window_id.
SELECT coalesce(
    (
        SELECT lower_transaction_id FROM windows
        WHERE consumer = :consumer AND window_id < :window_id AND arrived > 0
        ORDER BY window_id DESC
        LIMIT 1
    ),
    (SELECT lower_transaction_id FROM windows WHERE window_id = :window_id)
)
