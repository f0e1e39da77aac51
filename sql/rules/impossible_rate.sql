-- What: All events of a user's minute in which there are more than :max_events_per_minute.
-- Why: No person reacts that fast: it is a bot or a faulty client.
-- Reason: impossible_rate
WITH batch AS NOT MATERIALIZED (SELECT * FROM {batch}),

-- Counting by user first is cheap and leaves few, mostly no, users to look at by minute.
busy_users AS (
    SELECT user_id FROM batch
    GROUP BY user_id
    HAVING count(*) > :max_events_per_minute
),

impossible_minutes AS (
    SELECT batch.user_id, date_trunc('minute', batch.occurred_at) AS minute
    FROM batch
    JOIN busy_users ON busy_users.user_id = batch.user_id
    GROUP BY batch.user_id, date_trunc('minute', batch.occurred_at)
    HAVING count(*) > :max_events_per_minute
)

SELECT batch.feedback_id, 'impossible_rate' AS reason
FROM batch
JOIN impossible_minutes
    ON impossible_minutes.user_id = batch.user_id
    AND impossible_minutes.minute = date_trunc('minute', batch.occurred_at)
