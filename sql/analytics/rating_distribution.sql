create or replace view analytics.rating_distribution as
select
    event_type,
    value,
    count(*) as events,
    count(*)::double precision / sum(count(*)) over (partition by event_type) as share
from public.feedback
join public.event_types using (event_type)
where explicit and value is not null
group by event_type, value;

comment on view analytics.rating_distribution is
    'How often each value was given, for explicit event types with a value.';
comment on column analytics.rating_distribution.share is 'share of the events of this type that have a value';
comment on column analytics.rating_distribution.event_type is 'rating, and other explicit types with a value';
comment on column analytics.rating_distribution.value is 'the value given';
comment on column analytics.rating_distribution.events is 'events with this value';
