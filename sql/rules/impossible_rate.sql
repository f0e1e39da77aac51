-- What: All events of a user's minute in which there are more than :max_events_per_minute.
-- Why: No person reacts that fast: it is a bot or a faulty client.
-- Reason: impossible_rate
-- Scan: own
-- Noise: yes
-- From the consumer's previous window on, with what this rule took out of it: a burst may lie in both.
WITH counted AS (
    SELECT user_id, count(*) AS rows
    FROM feedback
    WHERE transaction_id >= :previous_lower_transaction_id AND transaction_id < :upper_transaction_id
    GROUP BY user_id
),

taken_out AS (
    SELECT user_id, (feedback ->> 'occurred_at')::timestamptz AS occurred_at
    FROM quarantine
    WHERE transaction_id >= :previous_lower_transaction_id AND transaction_id < :upper_transaction_id
        AND status <> 'released'
        AND 'impossible_rate' = ANY (reasons)
),

-- Counting by user first is cheap and leaves few, mostly no, users to look up by minute.
busy_users AS (
    SELECT user_id FROM counted WHERE rows > :max_events_per_minute
    UNION
    SELECT user_id FROM taken_out
),

impossible_minutes AS (
    SELECT busy_users.user_id, minutes.minute
    FROM busy_users
    CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute
        FROM (
            SELECT occurred_at
            FROM feedback
            WHERE feedback.user_id = busy_users.user_id
                AND transaction_id >= :previous_lower_transaction_id
                AND transaction_id < :upper_transaction_id
            UNION ALL
            SELECT occurred_at
            FROM taken_out
            WHERE taken_out.user_id = busy_users.user_id
        ) AS theirs
        WHERE isfinite(occurred_at)
        GROUP BY 1
        HAVING count(*) > :max_events_per_minute
    ) AS minutes
)

SELECT offending.feedback_id, 'impossible_rate' AS reason
FROM impossible_minutes
CROSS JOIN LATERAL (
    SELECT batch.feedback_id
    FROM {batch} AS batch
    WHERE batch.user_id = impossible_minutes.user_id
        AND batch.occurred_at >= impossible_minutes.minute
        AND batch.occurred_at < impossible_minutes.minute + interval '1 minute'
    -- keeps the look-up by index, which the planner would trade for another scan of the window
    OFFSET 0
) AS offending
