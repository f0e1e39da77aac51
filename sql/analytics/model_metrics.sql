create or replace view analytics.model_metrics as
select
    run_key,
    evaluated_at,
    scorer,
    model_version,
    slice,
    metric,
    value,
    low,
    high,
    users,
    value - max(value) filter (where scorer = 'champion') over (partition by run_key, slice, metric)
        as difference_to_champion,
    value - max(value) filter (where scorer = 'popularity') over (partition by run_key, slice, metric)
        as difference_to_popularity
from public.model_evaluations
-- A figure over fewer people would describe one of them: MIN_PEOPLE in recsys.warehouse.analytics.
where users >= 5;

comment on view analytics.model_metrics is
    'Offline metrics of every evaluated model, with the champion and the baselines of the same run, of groups of at '
    'least five people.';
comment on column analytics.model_metrics.scorer is 'candidate, champion or the name of a baseline';
comment on column analytics.model_metrics.slice is 'all, or the group of users or items that was measured';
comment on column analytics.model_metrics.low is 'lower bound of the confidence interval';
comment on column analytics.model_metrics.difference_to_champion is
    'absolute; null if the run had no champion to compare with';
comment on column analytics.model_metrics.run_key is 'the DAG run of the evaluation';
comment on column analytics.model_metrics.evaluated_at is 'when the figure was stored';
comment on column analytics.model_metrics.model_version is 'null for baselines';
comment on column analytics.model_metrics.metric is 'ndcg_at_10, recall_at_10, coverage_at_10, ...';
comment on column analytics.model_metrics.value is 'mean over the measured users, or one figure for all lists';
comment on column analytics.model_metrics.high is 'upper bound of the confidence interval';
comment on column analytics.model_metrics.users is 'number of measured users';
comment on column analytics.model_metrics.difference_to_popularity is 'absolute difference to the popularity baseline';
