-- What: A slate with an infinite time, or one before the year 1990.
-- Why: Which slates are the latest, and what was answered after them, goes by their time.
-- Reason: malformed_time
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'malformed_time' AS reason
FROM {batch} AS batch
WHERE NOT isfinite(batch.shown_at)
    -- a clock that was never set starts in 1970
    OR batch.shown_at < '1990-01-01Z'
