create materialized view analytics.feedback_lag as
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
from public.feedback_lag_by_day
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
