create or replace view analytics.open_alerts as
select
    cause,
    message,
    opened_at,
    seen_at
from public.alerts
where closed_at is null;

comment on view analytics.open_alerts is
    'What monitoring has found and what still holds: old lists, drift of feedback, fewer responses, items that are '
    'suddenly disliked, a slow decline of the champion. Figures are about five people or more.';
comment on column analytics.open_alerts.cause is 'what is watched';
comment on column analytics.open_alerts.message is 'as last found';
comment on column analytics.open_alerts.opened_at is 'when it was first found';
comment on column analytics.open_alerts.seen_at is 'when it was last found';
