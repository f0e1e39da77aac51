create or replace view analytics.rating_distribution as
with given as (
    select
        event_type,
        value,
        count(*) as events,
        count(*)::double precision / sum(count(*)) over (partition by event_type) as share,
        count(distinct user_id) as people
    from public.feedback
    join public.event_types using (event_type)
    where explicit and value is not null
    group by event_type, value
)
select event_type, value, events, share
from given
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where people >= 5;

comment on view analytics.rating_distribution is
    'How often each value was given, for explicit event types with a value. Values that fewer than five people gave are '
    'left out.';
comment on column analytics.rating_distribution.share is 'share of the events of this type that have a value, including values that are left out';
comment on column analytics.rating_distribution.event_type is 'rating, and other explicit types with a value';
comment on column analytics.rating_distribution.value is 'the value given';
comment on column analytics.rating_distribution.events is 'events with this value';
