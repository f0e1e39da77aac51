-- Earlier windows of a consumer in which rows arrived but whose validation failed or did not finish.
-- Parameters: consumer, window_id (of the window that is validated now).
SELECT window_id
FROM windows
WHERE consumer = :consumer
    AND window_id < :window_id
    AND arrived > 0
    AND (
        NOT EXISTS (
            SELECT FROM validation_results
            WHERE validation_results.window_id = windows.window_id
                AND validation_results.expectation = 'valid_share'
        )
        OR EXISTS (
            SELECT FROM validation_results AS failed
            WHERE failed.window_id = windows.window_id AND failed.severity = 'critical' AND NOT failed.success
        )
    )
ORDER BY window_id
