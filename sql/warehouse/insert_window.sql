-- Record a window with its number of rows. Rows can already be in quarantine, retired or erased. Rows below the upper
-- bound are final, so the number does not change later.
-- Parameters: consumer, run_key, lower, upper, interval_start, interval_end.
INSERT INTO windows (
    consumer, run_key, lower_transaction_id, upper_transaction_id, interval_start, interval_end, arrived
)
SELECT
    :consumer, :run_key, :lower, :upper,
    CAST(:interval_start AS timestamptz), CAST(:interval_end AS timestamptz),
    (SELECT count(*) FROM feedback WHERE transaction_id >= :lower AND transaction_id < :upper)
    + (SELECT count(*) FROM retired.feedback WHERE transaction_id >= :lower AND transaction_id < :upper)
    + (SELECT count(*) FROM quarantine WHERE transaction_id >= :lower AND transaction_id < :upper)
    + (
        SELECT coalesce(sum(rows), 0) FROM erased_feedback
        WHERE transaction_id >= :lower AND transaction_id < :upper
    )
RETURNING *
