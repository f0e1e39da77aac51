create materialized view analytics.cohort_retention as
with joined as (
    select user_id, unnest(weeks) as week, weeks[1] as cohort_week
    from public.feedback_by_user
    where not exists (
        select from public.users where users.user_id = feedback_by_user.user_id and users.kind = 'visitor'
    )
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
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where counted.active_users >= 5;

-- A concurrent refresh needs a unique index.
create unique index cohort_retention_key on analytics.cohort_retention (cohort_week, weeks_after);

comment on materialized view analytics.cohort_retention is
    'Users, without visitors, by the week of their first feedback, and how many of them gave feedback in each later week. '
    'A week with feedback of fewer than five of these users has no row. As of the last refresh.';
comment on column analytics.cohort_retention.cohort_week is 'Monday (UTC) of the week of their first feedback';
comment on column analytics.cohort_retention.weeks_after is '0 is the week of the first feedback';
comment on column analytics.cohort_retention.users is 'users in the cohort';
comment on column analytics.cohort_retention.active_users is 'of those, users with feedback in that week';
comment on column analytics.cohort_retention.retention is 'active_users / users';
