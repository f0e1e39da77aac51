-- Ranges of UTC days whose slates have new rows, new reactions or noted changes; both ends are in them.
-- Parameters: lower (transaction id of new rows, inclusive), noted (days, as text[]).
WITH days AS (
    SELECT unnest(CAST(:noted AS text[]))::date AS day
    UNION
    SELECT (shown_at AT TIME ZONE 'UTC')::date
    FROM impressions
    WHERE transaction_id >= :lower
    UNION
    SELECT (impressions.shown_at AT TIME ZONE 'UTC')::date
    FROM feedback
    JOIN impressions USING (impression_id, user_id)
    WHERE feedback.impression_id IS NOT NULL AND feedback.transaction_id >= :lower
),

numbered AS (
    SELECT day, day - row_number() OVER (ORDER BY day)::integer AS range FROM days
)

SELECT min(day)::text AS first_day, max(day)::text AS last_day
FROM numbered
GROUP BY range
ORDER BY 1
