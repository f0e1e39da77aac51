-- Median coverage of the consumer's earlier windows that passed, and their number.
-- Parameters: consumer, window_id, since (time), expectation.
SELECT
    percentile_cont(0.5) WITHIN GROUP (ORDER BY (results.observed ->> 'coverage')::double precision) AS median,
    count(*) AS windows
FROM windows
JOIN validation_results AS results ON results.window_id = windows.window_id
WHERE windows.consumer = :consumer
    AND windows.window_id < :window_id
    AND windows.opened_at >= :since
    AND results.expectation = :expectation
    AND results.observed ? 'coverage'
    AND NOT EXISTS (
        SELECT FROM validation_results AS failed
        WHERE failed.window_id = windows.window_id AND failed.severity = 'critical' AND NOT failed.success
    )
