create or replace view analytics.champion_comparisons as
select
    compared_at,
    days,
    champion_version,
    earlier_version,
    ndcg,
    earlier_ndcg,
    difference,
    low,
    high,
    users
from public.champion_comparisons
-- A figure over fewer people would describe one of them: MIN_PEOPLE in recsys.warehouse.analytics.
where users >= 5;

comment on view analytics.champion_comparisons is
    'The champion of each night against those of a week and a month ago, on the same users and the newest feedback. '
    'Losses that each promotion was allowed add up here.';
comment on column analytics.champion_comparisons.compared_at is 'when the night was evaluated';
comment on column analytics.champion_comparisons.days is 'how many days ago the earlier version was champion';
comment on column analytics.champion_comparisons.champion_version is 'champion of the night';
comment on column analytics.champion_comparisons.earlier_version is 'champion of so many days before';
comment on column analytics.champion_comparisons.ndcg is 'NDCG of the champion';
comment on column analytics.champion_comparisons.earlier_ndcg is 'NDCG of the earlier champion';
comment on column analytics.champion_comparisons.difference is 'champion - earlier champion';
comment on column analytics.champion_comparisons.low is 'lower limit of the difference';
comment on column analytics.champion_comparisons.high is 'upper limit of the difference; below 0: a decline';
comment on column analytics.champion_comparisons.users is 'users that both were evaluated on';
