create materialized view analytics.feedback_lag as
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
-- The transactions that each promoted version was the first to read.
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
-- The offset makes Postgres read each range through the index.
events as (
    select
        arrived.user_id, arrived.occurred_at, arrived.received_at, news.opened_at, news.decided_at, news.published_at
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
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where people >= 5;

-- A concurrent refresh needs a unique index.
create unique index feedback_lag_key on analytics.feedback_lag (arrival_day);

comment on materialized view analytics.feedback_lag is
    'Time from an event to its arrival in the warehouse, and from there to the first champion whose run read it, '
    'in seconds. That run keeps the latest events for evaluation: they count as read, and the next run trains on '
    'them. Days and figures of fewer than five people are left out. As of the last refresh.';
comment on column analytics.feedback_lag.arrival_day is 'UTC day on which the warehouse received the events';
comment on column analytics.feedback_lag.events is 'accepted feedback (not in quarantine)';
comment on column analytics.feedback_lag.late_events is 'of those, events that happened on an earlier UTC day';
comment on column analytics.feedback_lag.waiting_events is 'of those, events that no champion''s run has read yet';
comment on column analytics.feedback_lag.event_to_arrival_median is
    'seconds, from the clock of the application to that of the warehouse';
comment on column analytics.feedback_lag.event_to_arrival_p95 is 'seconds; 95th percentile';
comment on column analytics.feedback_lag.arrival_to_window_median is
    'seconds until the run opened its window; without waiting events, as in the columns below';
comment on column analytics.feedback_lag.arrival_to_champion_median is
    'seconds until the model of that run was promoted';
comment on column analytics.feedback_lag.arrival_to_champion_p95 is
    'seconds until the model of that run was promoted; 95th percentile';
comment on column analytics.feedback_lag.arrival_to_published_median is
    'seconds until users saw recommendations of that model';
