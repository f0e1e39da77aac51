-- What: All slates of a user in a minute with more than :max_events_per_minute of them, also those judged before.
-- Why: No person looks at lists that fast; a bot or a faulty client does, and passes over nearly everything.
-- Reason: impossible_rate
-- Scan: own
WITH busy_minutes AS (
    SELECT busy.user_id, minutes.minute
    FROM (
        SELECT batch.user_id, min(batch.shown_at) AS first_at, max(batch.shown_at) AS last_at
        FROM {batch} AS batch
        WHERE isfinite(batch.shown_at)
        GROUP BY batch.user_id
    ) AS busy
    CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', impressions.shown_at, 'epoch') AS minute
        FROM impressions
        WHERE impressions.user_id = busy.user_id
            AND impressions.shown_at >= busy.first_at - interval '1 minute'
            AND impressions.shown_at <= busy.last_at + interval '1 minute'
            AND impressions.transaction_id < :upper_transaction_id
        GROUP BY 1
        HAVING count(*) > :max_events_per_minute
    ) AS minutes
)

SELECT impressions.impression_id, impressions.shown_at, impressions.transaction_id, 'impossible_rate' AS reason
FROM busy_minutes
JOIN impressions ON impressions.user_id = busy_minutes.user_id
    AND impressions.shown_at >= busy_minutes.minute
    AND impressions.shown_at < busy_minutes.minute + interval '1 minute'
WHERE impressions.transaction_id < :upper_transaction_id
