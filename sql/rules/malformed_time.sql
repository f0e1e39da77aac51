-- What: No time, an infinite one, or one before the year :earliest_year.
-- Why: Order decides what the model predicts from what; a zero or missing clock puts an event before all others.
-- Reason: malformed_time
-- Scan: shared
SELECT batch.feedback_id, 'malformed_time' AS reason
FROM {batch} AS batch
WHERE batch.occurred_at IS NULL
    OR NOT isfinite(batch.occurred_at)
    OR batch.occurred_at < make_timestamptz(:earliest_year, 1, 1, 0, 0, 0, 'UTC')
