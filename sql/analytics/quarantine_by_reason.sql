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
    'Feedback in quarantine by the rule that it broke. A row that broke two rules counts under both.';
comment on column analytics.quarantine_by_reason.held is 'rows that a person still has to release or discard';
comment on column analytics.quarantine_by_reason.reason is 
    'name of the row rule; sql/rules/REASON.sql describes it';
comment on column analytics.quarantine_by_reason.rows is 'rows that broke it, including released and discarded ones';
comment on column analytics.quarantine_by_reason.released is 'rows that a person moved back to feedback';
comment on column analytics.quarantine_by_reason.discarded is 'rows that a person discarded; they are never used';
comment on column analytics.quarantine_by_reason.first_quarantined_at is 'when the first row was quarantined';
comment on column analytics.quarantine_by_reason.last_quarantined_at is 'when the latest row was quarantined';
