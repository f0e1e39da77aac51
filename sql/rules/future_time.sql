-- What: An event that happened later than it arrived, by more than a clock may be wrong.
-- Why: It would be held out as the latest feedback for as long as its time has not come.
-- Reason: future_time
-- Scan: shared
SELECT batch.feedback_id, 'future_time' AS reason
FROM {batch} AS batch
WHERE batch.occurred_at > batch.received_at + make_interval(mins => :future_tolerance_minutes)
    AND isfinite(batch.occurred_at)
