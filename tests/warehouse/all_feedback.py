"""The views of feedback as they read when every refresh counts all rows, in the order of their keys."""

DEFINITIONS = {
    "cohort_retention": """
with active as (
    select distinct user_id, date_trunc('week', occurred_at at time zone 'UTC')::date as week
    from public.feedback
    where isfinite(occurred_at)
        and not exists (
            select from public.users where users.user_id = feedback.user_id and users.kind = 'visitor'
        )
),
joined as (
    select user_id, week, min(week) over (partition by user_id) as cohort_week from active
),
counted as (
    select cohort_week, (week - cohort_week) / 7 as weeks_after, count(*) as active_users
    from joined
    group by 1, 2
)
select
    counted.cohort_week,
    counted.weeks_after,
    cohort.active_users as users,
    counted.active_users,
    counted.active_users::double precision / cohort.active_users as retention
from counted
join counted as cohort on cohort.cohort_week = counted.cohort_week and cohort.weeks_after = 0
where counted.active_users >= 5
""",
    "cold_items": """
with consumed as (
    select item_id, count(distinct user_id) as people
    from public.feedback
    group by item_id
),
recommended as (
    select item_id, count(*) as lists, min(rank) as best_rank
    from public.recommendation_lists
    cross join lateral unnest(item_ids) with ordinality as entry (item_id, rank)
    group by item_id
)
select
    items.item_id,
    items.title,
    items.created_at,
    item_vectors.item_id is not null as has_vector,
    case when recommended.lists >= 5 then recommended.lists end as recommended_to_users,
    case when recommended.lists >= 5 then recommended.best_rank end as best_rank
from public.items
left join consumed using (item_id)
left join recommended using (item_id)
left join public.item_vectors using (item_id)
where items.available
    and coalesce(items.available_from <= now(), true)
    and coalesce(items.available_until > now(), true)
    and coalesce(consumed.people, 0) < 5
""",
    "feedback_lag": """
with promoted as (
    select
        windows.upper_transaction_id as upper,
        windows.opened_at,
        ledger.decided_at,
        (
            select min(published_at) from public.publications
            where publications.model_version = ledger.model_version
              and publications.published_at >= ledger.decided_at
        ) as published_at
    from public.promotion_ledger as ledger
    join public.windows on windows.run_key = ledger.run_key
    where ledger.action = 'promote'
),
news as (
    select *
    from (
        select
            *,
            coalesce(
                max(upper) over (
                    order by decided_at, upper rows between unbounded preceding and 1 preceding
                ),
                0
            ) as lower
        from promoted
    ) as ordered
    where upper > lower
),
events as (
    select
        arrived.user_id, arrived.occurred_at, arrived.received_at, news.opened_at, news.decided_at,
        news.published_at
    from news
    cross join lateral (
        select user_id, occurred_at, received_at
        from public.feedback
        where transaction_id >= news.lower and transaction_id < news.upper
        offset 0
    ) as arrived
    union all
    select user_id, occurred_at, received_at, null, null, null
    from public.feedback
    where transaction_id >= coalesce((select max(upper) from news), 0)
),
lags as (
    select
        user_id,
        (received_at at time zone 'UTC')::date as arrival_day,
        (received_at at time zone 'UTC')::date > (occurred_at at time zone 'UTC')::date as late,
        case when isfinite(occurred_at)
            then extract(epoch from received_at - occurred_at)::double precision
        end as to_arrival,
        extract(epoch from opened_at - received_at)::double precision as to_window,
        extract(epoch from decided_at - received_at)::double precision as to_champion,
        extract(epoch from published_at - received_at)::double precision as to_published
    from events
),
counted as (
    select
        arrival_day,
        count(*) as events,
        count(*) filter (where late) as late_events,
        count(*) filter (where to_champion is null) as waiting_events,
        percentile_cont(0.5) within group (order by to_arrival) as event_to_arrival_median,
        percentile_cont(0.95) within group (order by to_arrival) as event_to_arrival_p95,
        percentile_cont(0.5) within group (order by to_window) as arrival_to_window_median,
        percentile_cont(0.5) within group (order by to_champion) as arrival_to_champion_median,
        percentile_cont(0.95) within group (order by to_champion) as arrival_to_champion_p95,
        percentile_cont(0.5) within group (order by to_published) as arrival_to_published_median,
        count(distinct user_id) as people,
        count(distinct user_id) filter (where late) as late_people,
        count(distinct user_id) filter (where to_champion is null) as waiting_people,
        count(distinct user_id) filter (where to_arrival is not null) as dated_people,
        count(distinct user_id) filter (where to_champion is not null) as read_people,
        count(distinct user_id) filter (where to_published is not null) as served_people
    from lags
    group by arrival_day
)

select
    arrival_day,
    events,
    case when late_people not between 1 and 4 then late_events end as late_events,
    case when waiting_people not between 1 and 4 then waiting_events end as waiting_events,
    case when dated_people >= 5 then event_to_arrival_median end as event_to_arrival_median,
    case when dated_people >= 5 then event_to_arrival_p95 end as event_to_arrival_p95,
    case when read_people >= 5 then arrival_to_window_median end as arrival_to_window_median,
    case when read_people >= 5 then arrival_to_champion_median end as arrival_to_champion_median,
    case when read_people >= 5 then arrival_to_champion_p95 end as arrival_to_champion_p95,
    case when served_people >= 5 then arrival_to_published_median end as arrival_to_published_median
from counted
where people >= 5
""",
    "item_concentration": """
with catalogue as (
    select count(*) as items from public.items
),
consumed as (
    select date_trunc('month', occurred_at at time zone 'UTC')::date as month, item_id, count(*) as events
    from public.feedback
    join public.items using (item_id)
    where isfinite(occurred_at)
    group by 1, 2
),
months as (
    select date_trunc('month', occurred_at at time zone 'UTC')::date as month
    from public.feedback
    where isfinite(occurred_at)
    group by 1
    having count(distinct user_id) >= 5
),
ranked as (
    select
        month,
        events,
        row_number() over (partition by month order by events desc) as rank
    from consumed
    join months using (month)
)
select
    month,
    sum(events)::bigint as events,
    count(*) as items,
    catalogue.items as catalogue_items,
    count(*)::double precision / catalogue.items as coverage,
    (sum(events * (catalogue.items + 1 - 2 * rank)) / (sum(events) * catalogue.items))::double precision
        as gini,
    (sum(events) filter (where rank <= ceil(catalogue.items / 10.0)) / sum(events))::double precision
        as top_tenth_share
from ranked
cross join catalogue
group by month, catalogue.items
""",
    "item_popularity": """
with consumed as (
    select
        item_id,
        count(*) as events,
        count(distinct user_id) as users,
        case
            when count(distinct user_id) filter (where event_type = 'rating' and value is not null) >= 5
                then avg(value) filter (where event_type = 'rating')
        end as average_rating,
        date_trunc('day', max(occurred_at), 'UTC') as last_event_at
    from public.feedback
    group by item_id
    having count(distinct user_id) >= 5
),
recommended as (
    select item_id, count(*) as lists, avg(rank) as average_rank
    from public.recommendation_lists
    cross join lateral unnest(item_ids) with ordinality as entry (item_id, rank)
    group by item_id
    having count(*) >= 5
)
select
    items.item_id,
    items.title,
    items.available
        and coalesce(items.available_from <= now(), true)
        and coalesce(items.available_until > now(), true) as available,
    consumed.events,
    consumed.users,
    consumed.average_rating,
    consumed.last_event_at,
    rank() over (order by coalesce(consumed.events, 0) desc) as popularity_rank,
    consumed.events::double precision / sum(consumed.events) over ()::double precision as share_of_events,
    recommended.lists as recommended_to_users,
    recommended.average_rank::double precision as average_recommended_rank
from public.items
left join consumed using (item_id)
left join recommended using (item_id)
""",
    "user_activity": """
with counted as (
    select
        users.consent,
        count(feedback.feedback_id) as events,
        count(feedback.feedback_id) filter (where event_types.explicit) as explicit_events,
        count(distinct feedback.item_id) as items,
        count(distinct (feedback.occurred_at at time zone 'UTC')::date) as active_days
    from public.users
    left join public.feedback using (user_id)
    left join public.event_types using (event_type)
    where users.kind = 'user'
    group by users.user_id
),
grouped as (
    select
        *,
        case when events > 0 then 1::bigint << length(ltrim(events::bit(64)::text, '0')) - 1 else 0 end
            as events_from
    from counted
)

select
    consent,
    events_from,
    greatest(2 * events_from - 1, 0) as events_to,
    count(*) as users,
    sum(events)::bigint as events,
    case when count(*) filter (where explicit_events > 0) not between 1 and 4
        then sum(explicit_events)::bigint
    end as explicit_events,
    avg(items)::double precision as average_items,
    avg(active_days)::double precision as average_active_days
from grouped
group by consent, events_from
having count(*) >= 5
""",
}
