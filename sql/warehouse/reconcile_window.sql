-- Count where a window's rows are now and store the counts with the window. Rows that broke only duplicate_... rules
-- count as duplicates. Rows of months that are retired or dropped count as valid. One statement, so that a row on its
-- way to quarantine is counted once.
-- Parameters: window_id, lower, upper.
WITH held AS (
    SELECT NOT EXISTS (
        SELECT FROM unnest(reasons) AS reason WHERE NOT starts_with(reason, 'duplicate')
    ) AS only_duplicate
    FROM quarantine
    WHERE transaction_id >= :lower AND transaction_id < :upper
)
UPDATE windows
SET valid = (SELECT count(*) FROM feedback WHERE transaction_id >= :lower AND transaction_id < :upper)
        + (SELECT count(*) FROM retired.feedback WHERE transaction_id >= :lower AND transaction_id < :upper)
        + (SELECT coalesce(sum(rows), 0) FROM dropped_feedback WHERE dropped_feedback.window_id = :window_id),
    quarantined = (SELECT count(*) FROM held WHERE NOT only_duplicate),
    duplicates = (SELECT count(*) FROM held WHERE only_duplicate),
    erased = (
        SELECT coalesce(sum(rows), 0) FROM erased_feedback
        WHERE transaction_id >= :lower AND transaction_id < :upper
    ),
    reconciled_at = clock_timestamp()
WHERE window_id = :window_id
RETURNING window_id, arrived, valid, quarantined, duplicates, erased, late, out_of_order
