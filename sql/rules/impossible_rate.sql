-- What: All events of a user's minute in which there are more than :max_events_per_minute.
-- Why: No person reacts that fast: it is a bot or a faulty client.
-- Reason: impossible_rate
-- Scan: own
-- Noise: yes
-- From the consumer's previous window on, with what this rule took out of it: a burst may lie in both.
WITH recent AS NOT MATERIALIZED (
    SELECT user_id, occurred_at
    FROM feedback
    WHERE transaction_id >= :previous_lower_transaction_id AND transaction_id < :upper_transaction_id
    UNION ALL
    SELECT user_id, (feedback ->> 'occurred_at')::timestamptz
    FROM quarantine
    WHERE transaction_id >= :previous_lower_transaction_id AND transaction_id < :upper_transaction_id
        AND status <> 'released'
        AND 'impossible_rate' = ANY (reasons)
),

-- Counting by user first is cheap and leaves few, mostly no, users to look at by minute.
busy_users AS (
    SELECT user_id
    FROM recent
    GROUP BY user_id
    HAVING count(*) > :max_events_per_minute
),

impossible_minutes AS (
    SELECT recent.user_id, date_trunc('minute', recent.occurred_at) AS minute
    FROM recent
    JOIN busy_users ON busy_users.user_id = recent.user_id
    GROUP BY recent.user_id, date_trunc('minute', recent.occurred_at)
    HAVING count(*) > :max_events_per_minute
)

SELECT batch.feedback_id, 'impossible_rate' AS reason
FROM {batch} AS batch
JOIN impossible_minutes
    ON impossible_minutes.user_id = batch.user_id
    AND impossible_minutes.minute = date_trunc('minute', batch.occurred_at)
