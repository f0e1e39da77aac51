-- Which share of their slates users answered in each placement: in the day that ended at :until, and in the week before it.
-- A slate is answered by an event on one of its items that is no dislike, of the user who saw it. Every user counts once,
-- however many slates were shown to them, so that a robot changes nothing.
-- Parameter: until.
with answered as (
    select distinct feedback.impression_id, feedback.user_id
    from feedback
    inner join event_types using (event_type)
    inner join valid_impressions as impressions
        on impressions.impression_id = feedback.impression_id
        and impressions.user_id = feedback.user_id
        and feedback.item_id = any (impressions.item_ids)
    where event_types.role <> 'dislike'
        and feedback_sentiment(event_types, feedback.value) >= 0
        -- A day for clocks that differ and for answers that come late.
        and feedback.occurred_at >= cast(:until as timestamptz) - interval '9 days'
        and feedback.occurred_at < cast(:until as timestamptz) + interval '1 day'
        and impressions.shown_at >= cast(:until as timestamptz) - interval '8 days'
        and impressions.shown_at < cast(:until as timestamptz)
),
by_user as (
    select
        coalesce(impressions.placement, '') as placement,
        impressions.shown_at >= cast(:until as timestamptz) - interval '1 day' as latest,
        impressions.user_id,
        count(answered.impression_id)::double precision / count(*) as share
    from valid_impressions as impressions
    left join answered
        on answered.impression_id = impressions.impression_id and answered.user_id = impressions.user_id
    where impressions.shown_at >= cast(:until as timestamptz) - interval '8 days'
        and impressions.shown_at < cast(:until as timestamptz)
    group by 1, 2, 3
)

select
    placement,
    latest,
    count(*) as users,
    avg(share) as mean,
    coalesce(var_samp(share), 0) as variance
from by_user
group by placement, latest
order by placement, latest
