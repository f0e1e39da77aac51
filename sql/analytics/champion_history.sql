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
    'Which model version was champion from when to when. The champion at a moment t is the row with '
    'valid_from <= t and (valid_to > t or valid_to is null).';
comment on column analytics.champion_history.valid_from is 'inclusive';
comment on column analytics.champion_history.valid_to is 'exclusive; null for the champion of today';
