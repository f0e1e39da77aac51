create or replace view analytics.recommendation_coverage as
with exposures as (
    select model_version, item_id, count(*) as lists
    from public.recommendation_lists
    cross join lateral unnest(item_ids) as item_id
    group by model_version, item_id
),
available as (
    select item_id
    from public.items
    where available
        and coalesce(available_from <= now(), true)
        and coalesce(available_until > now(), true)
),
catalogue as (
    select count(*) as items from available
),
ranked as (
    select model_version, lists, row_number() over (partition by model_version order by lists) as position
    from exposures
    join available using (item_id)
),
concentration as (
    select
        model_version,
        count(*) as recommended_items,
        sum(lists) as slots,
        -- Available items that are in no list rank first with 0 and raise the ranks of the others.
        sum(lists * (2 * (position + catalogue.items - shown.items) - catalogue.items - 1)) as weighted
    from ranked
    join (select model_version, count(*) as items from ranked group by model_version) as shown using (model_version)
    cross join catalogue
    group by model_version
),
lists as (
    select model_version, count(*) as users, max(published_at) as last_published_at
    from public.recommendation_lists
    group by model_version
    -- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
    having count(*) >= 5
)
select
    model_version,
    lists.users,
    coalesce(recommended_items, 0) as recommended_items,
    catalogue.items as available_items,
    coalesce(recommended_items, 0)::double precision / nullif(catalogue.items, 0) as coverage,
    (weighted / nullif(slots * catalogue.items, 0))::double precision as gini,
    lists.last_published_at
from lists
left join concentration using (model_version)
cross join catalogue;

comment on view analytics.recommendation_coverage is
    'How much of the catalogue the published lists contain, by model version that still has the lists of '
    'five people.';
comment on column analytics.recommendation_coverage.coverage is
    'share of the available items that at least one list contains';
comment on column analytics.recommendation_coverage.gini is
    'concentration of recommendations over the available items: 0 if all are equal, near 1 if a few get all';
comment on column analytics.recommendation_coverage.model_version is 'the version whose lists are counted';
comment on column analytics.recommendation_coverage.users is 'number of lists, one for each user';
comment on column analytics.recommendation_coverage.recommended_items is
    'available items that at least one list contains';
comment on column analytics.recommendation_coverage.available_items is 'items that may be recommended now';
comment on column analytics.recommendation_coverage.last_published_at is 'when the latest of these lists was published';
