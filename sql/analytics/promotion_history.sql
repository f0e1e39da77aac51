create or replace view analytics.promotion_history as
select
    ledger_id,
    decided_at,
    action,
    model_version,
    previous_champion,
    case when champion_sequence is null then previous_champion else model_version end as champion_after,
    reason,
    explanation,
    checks,
    actor
from public.promotion_ledger;

comment on view analytics.promotion_history is
    'Every decision about a model version: who took it, when, why and on which checks.';
comment on column analytics.promotion_history.champion_after is 'who served users after the decision';
