create or replace view analytics.click_through_by_slate as
with slates as (
    select
        impressions.user_id,
        coalesce(impressions.model_version, 'unknown') as model_version,
        impressions.query is not null as requested,
        cardinality(array_remove(impressions.item_ids, null)) as items,
        count(distinct reactions.item_id) as reactions,
        count(distinct reactions.item_id) filter (where reactions.clicked) as clicks,
        count(distinct reactions.item_id) filter (where reactions.converted) as conversions,
        min(array_position(impressions.item_ids, reactions.item_id)) filter (where reactions.clicked)
            as first_clicked_position,
        extract(epoch from min(reactions.occurred_at) - impressions.shown_at)::double precision
            as seconds_to_first_reaction
    from public.valid_impressions as impressions
    left join public.reactions_to_slates as reactions
        on reactions.impression_id = impressions.impression_id
        and reactions.user_id = impressions.user_id
        and reactions.item_id = any (impressions.item_ids)
        and isfinite(reactions.occurred_at)
    group by
        impressions.impression_id, impressions.shown_at, impressions.user_id, impressions.model_version,
        impressions.query is not null, cardinality(array_remove(impressions.item_ids, null))
)

select
    model_version,
    requested,
    items,
    reactions,
    clicks,
    conversions,
    first_clicked_position,
    count(*) as slates,
    percentile_cont(0.5) within group (order by seconds_to_first_reaction) as median_seconds_to_first_reaction
from slates
group by model_version, requested, items, reactions, clicks, conversions, first_clicked_position
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
having count(distinct user_id) >= 5;

comment on view analytics.click_through_by_slate is
    'Slates that are alike and had the same reactions, with their number. Slates that fewer than five people saw are '
    'left out, because a single slate shows what one of them did.';
comment on column analytics.click_through_by_slate.model_version is
    'as logged with the impression; unknown if none was logged';
comment on column analytics.click_through_by_slate.requested is 'whether the user made a request in words';
comment on column analytics.click_through_by_slate.items is 'items in the slate, without items logged as null';
comment on column analytics.click_through_by_slate.reactions is 'items with feedback of any type';
comment on column analytics.click_through_by_slate.clicks is
    'items with an event of type click, or of another type that is a step';
comment on column analytics.click_through_by_slate.conversions is
    'items with an event of a type that is an outcome; of those with a value, a positive one';
comment on column analytics.click_through_by_slate.first_clicked_position is
    'highest position that was clicked (1 is the top); null: none';
comment on column analytics.click_through_by_slate.slates is 'number of such slates';
comment on column analytics.click_through_by_slate.median_seconds_to_first_reaction is
    'null: no reaction; negative if the clocks of two applications differ';
