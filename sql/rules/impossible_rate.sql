-- What: All events of a user in a minute with more than :max_events_per_minute of them.
-- Why: No person reacts that fast; they come from a bot or a faulty client.
-- Reason: impossible_rate
-- Scan: own
-- Noise: yes
-- Includes the consumer's previous window and the rows that this rule moved out of it: a burst may span both windows.
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

-- Counting by user first is cheap and leaves few users, mostly none, to count by minute.
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
    -- Without OFFSET the planner would scan the window again instead of using the index.
    OFFSET 0
) AS offending
