-- Count the feedback of the people in changed_people from all of their rows. Triggers add the differences to
-- feedback_by_item.
WITH events AS MATERIALIZED (
    SELECT
        feedback.user_id,
        feedback.item_id,
        feedback.occurred_at,
        feedback.occurred_at AT TIME ZONE 'UTC' AS moment,
        isfinite(feedback.occurred_at) AS dated,
        coalesce(event_types.explicit, false) AS explicit,
        -- A value without end would spoil the sum for good. Validation takes it out.
        CASE WHEN feedback.event_type = 'rating' AND abs(feedback.value) < 'infinity' THEN feedback.value::numeric END
            AS rating
    FROM changed_people
    JOIN feedback USING (user_id)
    LEFT JOIN event_types USING (event_type)
),

entries AS (
    SELECT
        user_id,
        item_id,
        CASE WHEN dated THEN date_trunc('month', moment)::date END AS month,
        count(*) AS events,
        count(*) FILTER (WHERE explicit) AS explicit_events,
        count(rating) AS ratings,
        coalesce(sum(rating), 0) AS sum_of_ratings,
        max(occurred_at) AS last_event_at
    FROM events
    GROUP BY 1, 2, 3
),

had AS (
    SELECT
        user_id,
        sum(events) AS events,
        sum(explicit_events) AS explicit_events,
        count(DISTINCT item_id) AS items,
        array_agg(item_id) AS item_ids,
        array_agg(month) AS months,
        array_agg(events) AS item_events,
        array_agg(ratings) AS ratings,
        array_agg(sum_of_ratings) AS sums_of_ratings,
        array_agg(last_event_at) AS last_events_at
    FROM entries
    GROUP BY user_id
),

days AS (
    SELECT DISTINCT user_id, moment::date AS day, dated FROM events
),

active AS (
    SELECT
        user_id,
        count(day) AS active_days,
        array_agg(DISTINCT date_trunc('week', day)::date ORDER BY date_trunc('week', day)::date)
            FILTER (WHERE dated) AS weeks
    FROM days
    GROUP BY user_id
)

INSERT INTO feedback_by_user AS known (
    user_id, events, explicit_events, items, active_days, weeks, item_ids, months, item_events, ratings,
    sums_of_ratings, last_events_at
)
SELECT
    user_id, events, explicit_events, items, active_days, coalesce(weeks, '{}'), item_ids, months, item_events,
    ratings, sums_of_ratings, last_events_at
FROM had
JOIN active USING (user_id)
ON CONFLICT (user_id) DO UPDATE SET
    events = excluded.events,
    explicit_events = excluded.explicit_events,
    items = excluded.items,
    active_days = excluded.active_days,
    weeks = excluded.weeks,
    item_ids = excluded.item_ids,
    months = excluded.months,
    item_events = excluded.item_events,
    ratings = excluded.ratings,
    sums_of_ratings = excluded.sums_of_ratings,
    last_events_at = excluded.last_events_at
