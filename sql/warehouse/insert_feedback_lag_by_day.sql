-- Measure, for days of arrival, how long feedback took to arrive and to reach a model, in seconds.
-- The offset makes Postgres read each range through the index.
WITH reads AS (
    SELECT
        days.arrival_day,
        days.first_transaction_id,
        days.last_transaction_id,
        first_reads.opened_at,
        first_reads.decided_at,
        first_reads.published_at,
        greatest(first_reads.lower, days.first_transaction_id) AS lower,
        least(first_reads.upper, days.last_transaction_id + 1) AS upper
    FROM changed_arrival_days AS days
    JOIN first_reads ON first_reads.upper > days.first_transaction_id AND first_reads.lower <= days.last_transaction_id
),

lags AS (
    SELECT
        reads.arrival_day,
        reads.first_transaction_id,
        reads.last_transaction_id,
        arrived.user_id,
        reads.arrival_day > (arrived.occurred_at AT TIME ZONE 'UTC')::date AS late,
        CASE WHEN isfinite(arrived.occurred_at)
            THEN extract(epoch FROM arrived.received_at - arrived.occurred_at)::double precision
        END AS to_arrival,
        extract(epoch FROM reads.opened_at - arrived.received_at)::double precision AS to_window,
        extract(epoch FROM reads.decided_at - arrived.received_at)::double precision AS to_champion,
        extract(epoch FROM reads.published_at - arrived.received_at)::double precision AS to_published
    FROM reads
    CROSS JOIN LATERAL (
        SELECT user_id, occurred_at, received_at
        FROM feedback
        WHERE transaction_id >= reads.lower AND transaction_id < reads.upper
        OFFSET 0
    ) AS arrived
    WHERE (arrived.received_at AT TIME ZONE 'UTC')::date = reads.arrival_day
)

INSERT INTO feedback_lag_by_day (
    arrival_day, first_transaction_id, last_transaction_id, runs, events, late_events, waiting_events,
    event_to_arrival_median, event_to_arrival_p95, arrival_to_window_median, arrival_to_champion_median,
    arrival_to_champion_p95, arrival_to_published_median, people, late_people, waiting_people, dated_people,
    read_people, served_people
)
SELECT
    arrival_day,
    first_transaction_id,
    last_transaction_id,
    (
        SELECT bit_xor(digest) FROM first_reads
        WHERE upper > first_transaction_id AND lower <= last_transaction_id
    ),
    count(*),
    count(*) FILTER (WHERE late),
    count(*) FILTER (WHERE to_champion IS NULL),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY to_arrival),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY to_arrival),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY to_window),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY to_champion),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY to_champion),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY to_published),
    count(DISTINCT user_id),
    count(DISTINCT user_id) FILTER (WHERE late),
    count(DISTINCT user_id) FILTER (WHERE to_champion IS NULL),
    count(DISTINCT user_id) FILTER (WHERE to_arrival IS NOT NULL),
    count(DISTINCT user_id) FILTER (WHERE to_champion IS NOT NULL),
    count(DISTINCT user_id) FILTER (WHERE to_published IS NOT NULL)
FROM lags
GROUP BY arrival_day, first_transaction_id, last_transaction_id
