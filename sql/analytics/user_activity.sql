create materialized view analytics.user_activity as
with counted as (
    select
        users.consent,
        coalesce(given.events, 0) as events,
        coalesce(given.explicit_events, 0) as explicit_events,
        coalesce(given.items, 0) as items,
        coalesce(given.active_days, 0) as active_days
    from public.users
    left join public.feedback_by_user as given using (user_id)
    where users.kind = 'user'
),
grouped as (
    select
        *,
        -- The largest power of two that is not above the number.
        case when events > 0 then 1::bigint << length(ltrim(events::bit(64)::text, '0')) - 1 else 0 end as events_from
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
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
having count(*) >= 5;

-- A concurrent refresh needs a unique index.
create unique index user_activity_key on analytics.user_activity (consent, events_from);

comment on materialized view analytics.user_activity is
    'Users, without visitors, by how many events they have, in steps of two. Groups of fewer than five users are left out. '
    'As of the last refresh.';
comment on column analytics.user_activity.consent is 'whether models may be trained on these users'' feedback';
comment on column analytics.user_activity.events_from is 'fewest events of a user in the group: 0, 1, 2, 4, 8, ...';
comment on column analytics.user_activity.events_to is 'most events of a user in the group';
comment on column analytics.user_activity.users is 'users in the group';
comment on column analytics.user_activity.events is 'feedback events of all types of these users together';
comment on column analytics.user_activity.explicit_events is
    'of those, ratings, likes, dislikes and comments; null if one to four users gave them';
comment on column analytics.user_activity.average_items is 'mean number of distinct items of a user';
comment on column analytics.user_activity.average_active_days is 'mean number of UTC days with feedback of a user';
