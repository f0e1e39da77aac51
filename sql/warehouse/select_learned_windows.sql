-- Windows of a consumer, up to one of them, that hold feedback from a transaction id on: a micro-update learns them
-- again, together with the feedback that earlier updates held back.
-- Parameters: window_id, since_transaction_id.
SELECT learned.window_id
FROM windows AS newest
JOIN windows AS learned
    ON learned.consumer = newest.consumer AND learned.window_id <= newest.window_id
WHERE newest.window_id = :window_id
    AND learned.upper_transaction_id > :since_transaction_id
    AND (learned.arrived > 0 OR learned.window_id = newest.window_id)
ORDER BY learned.window_id
