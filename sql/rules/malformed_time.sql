-- What: An event without a time, with an infinite time, or before the year 1990.
-- Why: The order of events decides what the model learns; a zero or missing clock puts an event before all others.
-- Reason: malformed_time
-- Scan: shared
SELECT batch.feedback_id, 'malformed_time' AS reason
FROM {batch} AS batch
WHERE batch.occurred_at IS NULL
    OR NOT isfinite(batch.occurred_at)
    -- older than any online feedback; a clock that was never set starts in 1970
    OR batch.occurred_at < '1990-01-01Z'
