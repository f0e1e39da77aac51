create or replace view analytics.quarantine_by_reason as
select
    reason,
    count(*) as rows,
    count(*) filter (where status = 'held') as held,
    count(*) filter (where status = 'released') as released,
    count(*) filter (where status = 'discarded') as discarded,
    min(quarantined_at) as first_quarantined_at,
    max(quarantined_at) as last_quarantined_at
from public.quarantine
cross join lateral unnest(reasons) as reason
group by reason;

comment on view analytics.quarantine_by_reason is
    'Feedback put aside, by the rule it breaks. A row that breaks two rules counts under both.';
comment on column analytics.quarantine_by_reason.held is 'waiting for a person to release or discard them';
comment on column analytics.quarantine_by_reason.reason is 'name of the row rule: sql/rules/REASON.sql says what it means';
comment on column analytics.quarantine_by_reason.rows is 'rows that broke it, settled ones too';
comment on column analytics.quarantine_by_reason.released is 'let back into the feedback by a person';
comment on column analytics.quarantine_by_reason.discarded is 'settled as never to be used';
comment on column analytics.quarantine_by_reason.first_quarantined_at is 'when the first was put aside';
comment on column analytics.quarantine_by_reason.last_quarantined_at is 'when the latest was put aside';
