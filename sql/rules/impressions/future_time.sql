-- What: A slate whose time is more than :future_tolerance_minutes minutes after its arrival.
-- Why: Its answers would come before it.
-- Reason: future_time
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'future_time' AS reason
FROM {batch} AS batch
WHERE batch.shown_at > batch.received_at + make_interval(mins => :future_tolerance_minutes)
    AND isfinite(batch.shown_at)
