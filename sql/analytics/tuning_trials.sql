create or replace view analytics.tuning_trials as
select
    searches.run_key,
    searches.started_at,
    coalesce(searches.outcome, 'running') as outcome,
    trials.number as trial,
    trials.settings,
    trials.state,
    cardinality(trials.curve) as epochs,
    trials.score,
    trials.number is not distinct from searches.winner as best,
    tested.users,
    tested.difference,
    tested.low,
    tested.high,
    decided.model_version,
    exists(
        select from public.promotion_ledger as reigns
        where reigns.model_version = decided.model_version and reigns.champion_sequence is not null
    ) as adopted
from public.searches
join public.search_trials as trials using (search_id)
left join lateral (
    select
        searches.users,
        searches.difference,
        searches.low,
        searches.high
    where trials.number = searches.winner and searches.users >= 5
) as tested on true
left join lateral (
    select ledger.model_version from public.promotion_ledger as ledger
    where trials.number = searches.winner and ledger.run_key = searches.run_key
    order by ledger.ledger_id
    limit 1
) as decided on true;

comment on view analytics.tuning_trials is
    'What each search of settings tried, how far that came, which trial was the best, whether users whom the search had '
    'not seen confirmed it, and whether its model became champion. One row for each trial.';
comment on column analytics.tuning_trials.run_key is 'the DAG run that searched';
comment on column analytics.tuning_trials.started_at is 'when the search began';
comment on column analytics.tuning_trials.outcome is
    'of the search: running, confirmed, not_better, too_few_users, present_is_best, failed or abandoned';
comment on column analytics.tuning_trials.trial is 'from 0, which has the settings in force when the search began';
comment on column analytics.tuning_trials.settings is 'what was tried';
comment on column analytics.tuning_trials.state is 'running, complete, pruned, failed or out_of_time';
comment on column analytics.tuning_trials.epochs is 'epochs that were trained';
comment on column analytics.tuning_trials.score is
    'NDCG of the whole model on the users of validation; null unless the trial is complete';
comment on column analytics.tuning_trials.best is 'whether the trial has the highest score of its search';
comment on column analytics.tuning_trials.users is
    'users whom the search had not seen and who tested the best trial; null: no test, or of fewer than five';
comment on column analytics.tuning_trials.difference is 'their NDCG with its settings minus that with those of trial 0';
comment on column analytics.tuning_trials.low is 'lower end of the interval of the difference';
comment on column analytics.tuning_trials.high is 'upper end of the interval of the difference';
comment on column analytics.tuning_trials.model_version is
    'the version with the model of the best trial; null: it came to no decision of the gate';
comment on column analytics.tuning_trials.adopted is 'whether this version has become champion';
