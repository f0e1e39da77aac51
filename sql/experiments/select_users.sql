-- What each user of an experiment did with the slates that were shown since all arms were published, until :until, and in
-- the time from :before until then. Every count is cut at that of the 99th percentile of those users of all arms who have
-- any, so that no robot outweighs them. An answer names its slate, is about one of its items, comes from the user who saw it,
-- and is at most an hour older: clocks differ.
-- The placeholder is select_slates.
-- Parameters: experiment_id, before, until.
with this as (
    select * from experiments where experiment_id = :experiment_id
),
slates as (
    {slates}
),
answers as (
    select
        slates.impression_id,
        slates.user_id,
        feedback.item_id,
        bool_or(event_types.role <> 'dislike' and said.sentiment >= 0) as answered,
        bool_or(event_types.role = 'outcome' and said.sentiment >= 0) as converted,
        bool_or(said.sentiment < 0) as disliked
    from slates
    join feedback
        on feedback.impression_id = slates.impression_id
        and feedback.user_id = slates.user_id
        and feedback.item_id = any (slates.item_ids)
        and feedback.occurred_at >= slates.shown_at - interval '1 hour'
    join event_types using (event_type)
    cross join lateral (select feedback_sentiment(event_types, feedback.value) as sentiment) as said
    where feedback.occurred_at >= cast(:before as timestamptz) - interval '1 hour'
        and feedback.occurred_at < cast(:until as timestamptz)
    group by slates.impression_id, slates.user_id, feedback.item_id
),
by_slate as (
    select
        impression_id,
        bool_or(answered) as answered,
        count(*) filter (where converted) as conversions,
        count(*) filter (where disliked) as dislikes
    from answers
    group by impression_id
),
counted as (
    select
        slates.arm,
        slates.user_id,
        count(*) filter (where during) as slates,
        count(*) filter (where during and by_slate.answered) as answered,
        sum(by_slate.conversions) filter (where during) as conversions,
        sum(by_slate.dislikes) filter (where during) as dislikes,
        count(*) filter (where not during) as slates_before,
        count(*) filter (where not during and by_slate.answered) as answered_before,
        sum(by_slate.conversions) filter (where not during) as conversions_before,
        sum(by_slate.dislikes) filter (where not during) as dislikes_before,
        count(*) filter (
            where during
                and slates.model_version is not null
                and (slates.model_version = this.challenger) <> (slates.arm = 'challenger')
        ) as of_other_arm
    from this
    cross join slates
    left join by_slate on by_slate.impression_id = slates.impression_id
    group by slates.arm, slates.user_id
    having bool_or(during)
),
most as (
    select
        percentile_disc(0.99) within group (order by slates) as slates,
        percentile_disc(0.99) within group (order by answered) filter (where answered > 0) as answered,
        percentile_disc(0.99) within group (order by conversions) filter (where conversions > 0) as conversions,
        percentile_disc(0.99) within group (order by dislikes) filter (where dislikes > 0) as dislikes,
        percentile_disc(0.99) within group (order by slates_before) filter (where slates_before > 0) as slates_before,
        percentile_disc(0.99) within group (order by answered_before) filter (where answered_before > 0)
            as answered_before,
        percentile_disc(0.99) within group (order by conversions_before) filter (where conversions_before > 0)
            as conversions_before,
        percentile_disc(0.99) within group (order by dislikes_before) filter (where dislikes_before > 0)
            as dislikes_before
    from counted
)

select
    counted.arm,
    counted.of_other_arm,
    counted.slates as all_slates,
    least(counted.slates, most.slates)::double precision as slates,
    coalesce(least(counted.answered, most.answered), 0)::double precision as answered,
    coalesce(least(counted.conversions, most.conversions), 0)::double precision as conversions,
    coalesce(least(counted.dislikes, most.dislikes), 0)::double precision as dislikes,
    coalesce(least(counted.slates_before, most.slates_before), 0)::double precision as slates_before,
    coalesce(least(counted.answered_before, most.answered_before), 0)::double precision as answered_before,
    coalesce(least(counted.conversions_before, most.conversions_before), 0)::double precision as conversions_before,
    coalesce(least(counted.dislikes_before, most.dislikes_before), 0)::double precision as dislikes_before
from counted
cross join most
