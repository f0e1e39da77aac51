create materialized view analytics.user_activity as
select
    coalesce(
        users.user_key,
        'new-' || row_number() over (partition by users.user_key is null order by users.created_at, users.user_id)
    ) as user_key,
    users.consent,
    count(feedback.feedback_id) as events,
    count(feedback.feedback_id) filter (where event_types.explicit) as explicit_events,
    count(distinct feedback.item_id) as items,
    count(distinct (feedback.occurred_at at time zone 'UTC')::date) as active_days,
    date_trunc('day', min(feedback.occurred_at), 'UTC') as first_event_at,
    date_trunc('day', max(feedback.occurred_at), 'UTC') as last_event_at
from public.users
left join public.feedback using (user_id)
left join public.event_types using (event_type)
group by users.user_id;

-- A concurrent refresh needs a unique index; null keys would make it slow.
create unique index user_activity_key on analytics.user_activity (user_key);

comment on materialized view analytics.user_activity is
    'Activity of every user, identified by keyed hash and never by id. As of the last refresh.';
comment on column analytics.user_activity.user_key is
    'keyed hash of the user id; new-1, new-2, ... are users who are in no snapshot yet';
comment on column analytics.user_activity.active_days is 'number of UTC days with feedback';
comment on column analytics.user_activity.consent is 'whether models may be trained on the user''s feedback';
comment on column analytics.user_activity.events is 'feedback events of all types';
comment on column analytics.user_activity.explicit_events is 'of those, ratings, likes, dislikes and comments';
comment on column analytics.user_activity.items is 'distinct items among them';
comment on column analytics.user_activity.first_event_at is 'UTC day of the first of them';
comment on column analytics.user_activity.last_event_at is 'UTC day of the latest of them';
