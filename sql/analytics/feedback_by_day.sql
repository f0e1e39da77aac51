create or replace view analytics.feedback_by_day as
select
    (occurred_at at time zone 'UTC')::date as day,
    event_type,
    count(*) as events,
    count(distinct user_id) as users,
    count(distinct item_id) as items,
    case
        when count(distinct user_id) filter (where comment <> '') not between 1 and 4
            then count(nullif(comment, ''))
    end as comments,
    case when count(distinct user_id) filter (where value is not null) >= 5 then avg(value) end as average_value
from public.feedback
group by 1, 2
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
having count(distinct user_id) >= 5;

comment on view analytics.feedback_by_day is
    'Accepted feedback (not in quarantine) by the UTC day on which it happened and by event type. Days on which fewer '
    'than five people gave feedback of a type are left out.';
comment on column analytics.feedback_by_day.day is 'UTC; null for events whose time is unknown';
comment on column analytics.feedback_by_day.comments is 'events with a written comment; null if they are of one to four people';
comment on column analytics.feedback_by_day.average_value is 'null if fewer than five people gave a value';
comment on column analytics.feedback_by_day.event_type is 'rating, click, purchase, ... as in the table event_types';
comment on column analytics.feedback_by_day.events is 'feedback events';
comment on column analytics.feedback_by_day.users is 'distinct users among them';
comment on column analytics.feedback_by_day.items is 'distinct items among them';
