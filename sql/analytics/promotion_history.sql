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
    'Every decision about a model version: who made it, when, why and based on which checks.';
comment on column analytics.promotion_history.champion_after is 'the champion after the decision';
comment on column analytics.promotion_history.ledger_id is 'increases with each decision';
comment on column analytics.promotion_history.decided_at is 'when the decision was recorded';
comment on column analytics.promotion_history.action is 'promote, hold, reject or roll_back';
comment on column analytics.promotion_history.model_version is 'the version that was decided on';
comment on column analytics.promotion_history.previous_champion is 'the champion before the decision; null: none';
comment on column analytics.promotion_history.reason is 'machine-readable name of the reason';
comment on column analytics.promotion_history.explanation is 'the reason as a sentence';
comment on column analytics.promotion_history.checks is 'the gate''s checks with their figures';
comment on column analytics.promotion_history.actor is 'the DAG run or the person that decided';
