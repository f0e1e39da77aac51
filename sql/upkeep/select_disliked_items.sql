-- Items that many more people disliked in the day that ended at :until than on a day of the four weeks before: dislikes,
-- low values and returned purchases, with or without a comment. Each person counts once a day.
-- Parameters: until, people (the fewest that count), times (as many as usual), limit.
with dislikes as (
    select
        feedback.item_id,
        feedback.user_id,
        feedback.occurred_at >= cast(:until as timestamptz) - interval '1 day' as latest,
        floor(extract(epoch from cast(:until as timestamptz) - feedback.occurred_at) / 86400) as days_ago
    from feedback
    inner join event_types using (event_type)
    where feedback.occurred_at >= cast(:until as timestamptz) - interval '29 days'
        and feedback.occurred_at < cast(:until as timestamptz)
        and feedback_sentiment(event_types, feedback.value) < 0
),
counted as (
    select
        item_id,
        count(distinct user_id) filter (where latest) as people,
        count(distinct (user_id, days_ago)) filter (where not latest) / 28.0 as usual
    from dislikes
    group by item_id
)

select
    counted.item_id,
    counted.people,
    counted.usual::double precision as usual
from counted
where counted.people >= :people
    -- Three standard deviations of a count with this mean, so that what is disliked often is not reported by chance.
    and counted.people > :times * counted.usual + 3 * sqrt(counted.usual)
order by counted.people - counted.usual desc, counted.item_id
limit :limit
