-- Sum of the counts that validation stored for earlier windows that passed, by expectation and bin.
-- Parameters: lower_transaction_id (of the window to compare), since (time).
SELECT results.expectation, counted.key AS bin, sum(counted.value::bigint)::bigint AS rows
FROM windows
JOIN validation_results AS results ON results.window_id = windows.window_id
CROSS JOIN LATERAL jsonb_each_text(results.observed -> 'counts') AS counted
WHERE windows.upper_transaction_id <= :lower_transaction_id
    AND windows.opened_at >= :since
    AND windows.arrived > 0
    AND results.observed ? 'counts'
    AND NOT EXISTS (
        SELECT FROM validation_results AS failed
        WHERE failed.window_id = windows.window_id AND failed.severity = 'critical' AND NOT failed.success
    )
GROUP BY results.expectation, counted.key
