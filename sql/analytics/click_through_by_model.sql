create materialized view analytics.click_through_by_model as
with reactions as (
    select
        impression_id,
        user_id,
        item_id,
        bool_or(event_type = 'click') as clicked,
        bool_or(event_type = 'purchase') as converted
    from public.feedback
    where impression_id is not null
    group by impression_id, user_id, item_id
),
slates as (
    select
        coalesce(impressions.model_version, 'unknown') as model_version,
        impressions.user_id,
        count(shown.item_id) as items,
        count(reactions.item_id) as reactions,
        count(*) filter (where reactions.clicked) as clicks,
        count(*) filter (where reactions.converted) as conversions
    from public.impressions
    left join lateral (
        select distinct item_id from unnest(item_ids) as item_id where item_id is not null
    ) as shown on true
    left join reactions
        on reactions.impression_id = impressions.impression_id
        and reactions.user_id = impressions.user_id
        and reactions.item_id = shown.item_id
    group by impressions.impression_id
)
select
    model_version,
    count(*) as slates,
    sum(items)::bigint as shown,
    sum(reactions)::bigint as reactions,
    sum(clicks)::bigint as clicks,
    sum(conversions)::bigint as conversions,
    sum(clicks)::double precision / nullif(sum(items), 0)::double precision as click_through_rate,
    sum(conversions)::double precision / nullif(sum(items), 0)::double precision as conversion_rate,
    count(*) filter (where clicks > 0)::double precision / count(*) as slate_click_share,
    count(*) filter (where conversions > 0)::double precision / count(*) as slate_conversion_share
from slates
group by model_version
-- Over fewer people it would say what one of them does: MIN_PEOPLE in recsys.warehouse.analytics.
having count(distinct user_id) >= 5;

-- A concurrent refresh needs a unique index.
create unique index click_through_by_model_key on analytics.click_through_by_model (model_version);

comment on materialized view analytics.click_through_by_model is
    'Reactions of users to the slates of each model version. Feedback counts if it names the impression, comes '
    'from the user who saw it and is about one of its items. Versions that fewer than five people saw are left out. '
    'As of the last refresh.';
comment on column analytics.click_through_by_model.model_version is
    'as logged with the impression; unknown if none was logged';
comment on column analytics.click_through_by_model.slates is 'impressions';
comment on column analytics.click_through_by_model.shown is 'items in those slates, without items logged as null';
comment on column analytics.click_through_by_model.reactions is 'shown items with feedback of any type';
comment on column analytics.click_through_by_model.clicks is 
    'shown items with an event of type click; a second click does not count';
comment on column analytics.click_through_by_model.conversions is 'shown items with an event of type purchase';
comment on column analytics.click_through_by_model.click_through_rate is 'clicks / shown';
comment on column analytics.click_through_by_model.conversion_rate is 'conversions / shown';
comment on column analytics.click_through_by_model.slate_click_share is 'share of slates with at least one click';
comment on column analytics.click_through_by_model.slate_conversion_share is
    'share of slates with at least one conversion';
