-- Count a window's late and out-of-order rows and store the counts with the window.
-- Late: the event happened before an earlier window of the consumer closed. Out of order: it happened before that
-- of a row that arrived earlier in this window. A time that is missing, infinite or after the arrival is replaced by
-- the time of arrival. Erased rows are not counted, because their times are gone.
-- Parameters: window_id, lower, upper.
WITH arrivals AS (
    SELECT transaction_id, feedback_id, occurred_at, received_at
    FROM feedback
    WHERE transaction_id >= :lower AND transaction_id < :upper
    UNION ALL
    SELECT
        transaction_id,
        feedback_id,
        (feedback ->> 'occurred_at')::timestamptz,
        (feedback ->> 'received_at')::timestamptz
    FROM quarantine
    WHERE transaction_id >= :lower AND transaction_id < :upper
),

timed AS (
    SELECT
        transaction_id,
        feedback_id,
        CASE WHEN isfinite(occurred_at) THEN least(occurred_at, received_at) ELSE received_at END AS happened
    FROM arrivals
),

followed AS (
    SELECT
        happened,
        max(happened) OVER (
            ORDER BY transaction_id, feedback_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS latest_before
    FROM timed
),

closed AS (
    SELECT max(least(earlier.interval_end, earlier.opened_at)) AS closed_at
    FROM windows AS earlier
    JOIN windows AS this ON this.consumer = earlier.consumer AND this.window_id > earlier.window_id
    WHERE this.window_id = :window_id
),

counted AS (
    SELECT
        count(*) FILTER (WHERE followed.happened < closed.closed_at) AS late,
        count(*) FILTER (WHERE followed.happened < followed.latest_before) AS out_of_order
    FROM followed
    CROSS JOIN closed
)

UPDATE windows
SET late = counted.late, out_of_order = counted.out_of_order
FROM counted
WHERE windows.window_id = :window_id
RETURNING windows.window_id, arrived, valid, quarantined, duplicates, erased, windows.late, windows.out_of_order
