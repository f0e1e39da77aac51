-- What: An event whose time is more than :future_tolerance_minutes minutes after its arrival.
-- Why: Until that time comes, it would be held out as the latest feedback.
-- Reason: future_time
-- Scan: shared
SELECT batch.feedback_id, 'future_time' AS reason
FROM {batch} AS batch
WHERE batch.occurred_at > batch.received_at + make_interval(mins => :future_tolerance_minutes)
    AND isfinite(batch.occurred_at)
