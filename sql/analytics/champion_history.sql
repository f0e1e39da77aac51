create or replace view analytics.champion_history as
select
    champion_sequence,
    model_version,
    decided_at as valid_from,
    lead(decided_at) over (order by champion_sequence) as valid_to,
    lead(champion_sequence) over (order by champion_sequence) is null as current,
    action,
    reason,
    explanation,
    actor
from public.promotion_ledger
where champion_sequence is not null;

comment on view analytics.champion_history is
    'When each model version was champion. The champion at a moment t is the row with '
    'valid_from <= t and (valid_to > t or valid_to is null); analytics.champion_at(t) returns it.';
comment on column analytics.champion_history.valid_from is 'inclusive';
comment on column analytics.champion_history.valid_to is 'exclusive; null for the current champion';
comment on column analytics.champion_history.champion_sequence is '1 for the first champion, 2 for the next, ...';
comment on column analytics.champion_history.model_version is 'version in the model registry';
comment on column analytics.champion_history.current is 'whether this is the champion now';
comment on column analytics.champion_history.action is 'promote or roll_back';
comment on column analytics.champion_history.reason is 'machine-readable name of the reason';
comment on column analytics.champion_history.explanation is 'the reason as a sentence';
comment on column analytics.champion_history.actor is 'the DAG run or the person that decided';
