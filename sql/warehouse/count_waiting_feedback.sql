-- Rows that had arrived when a window was opened but wait for a later one, because an older transaction was still open;
-- at most 100,000 are counted.
-- Parameters: upper, before (when the window was opened, or the end of its interval).
SELECT count(*)
FROM (
    SELECT FROM feedback
    WHERE transaction_id >= :upper AND received_at < CAST(:before AS timestamptz)
    LIMIT 100000
) AS waiting
