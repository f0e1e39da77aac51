create materialized view analytics.click_through_by_model as
with counted as (
    select
        model_version,
        sum(slates)::bigint as slates,
        sum(shown)::bigint as shown,
        sum(reactions)::bigint as reactions,
        sum(clicks)::bigint as clicks,
        sum(conversions)::bigint as conversions,
        sum(clicked_slates)::bigint as clicked,
        sum(converted_slates)::bigint as converted,
        cardinality(public.five_people(people)) as people,
        cardinality(public.five_people(reacting_people)) as reacting_people,
        cardinality(public.five_people(clicking_people)) as clicking_people,
        cardinality(public.five_people(converting_people)) as converting_people
    from public.slates_by_day
    where model_version is not null and position is null
    group by model_version
)

select
    model_version,
    slates,
    shown,
    case when reacting_people not between 1 and 4 then reactions end as reactions,
    case when clicking_people not between 1 and 4 then clicks end as clicks,
    case when converting_people not between 1 and 4 then conversions end as conversions,
    case when clicking_people not between 1 and 4 then clicks::double precision / nullif(shown, 0) end
        as click_through_rate,
    case when converting_people not between 1 and 4 then conversions::double precision / nullif(shown, 0) end
        as conversion_rate,
    case when clicking_people not between 1 and 4 then clicked::double precision / slates end as slate_click_share,
    case when converting_people not between 1 and 4 then converted::double precision / slates end
        as slate_conversion_share
from counted
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where people >= 5;

-- A concurrent refresh needs a unique index.
create unique index click_through_by_model_key on analytics.click_through_by_model (model_version);

comment on materialized view analytics.click_through_by_model is
    'Reactions of users to the slates of each model version. Feedback counts if it names the impression, comes '
    'from the user who saw it and is about one of its items. Versions that fewer than five people saw are left out, and '
    'so are figures of one to four people. As of the last refresh.';
comment on column analytics.click_through_by_model.model_version is
    'as logged with the impression; unknown if none was logged';
comment on column analytics.click_through_by_model.slates is 'impressions';
comment on column analytics.click_through_by_model.shown is 'items in those slates, without items logged as null';
comment on column analytics.click_through_by_model.reactions is 'shown items with feedback of any type';
comment on column analytics.click_through_by_model.clicks is 
    'shown items with an event of type click, or of another type that is a step; a second one does not count';
comment on column analytics.click_through_by_model.conversions is 'shown items with an event of a type that is an outcome; of those with a value, a positive one';
comment on column analytics.click_through_by_model.click_through_rate is 'clicks / shown';
comment on column analytics.click_through_by_model.conversion_rate is 'conversions / shown';
comment on column analytics.click_through_by_model.slate_click_share is 'share of slates with at least one click';
comment on column analytics.click_through_by_model.slate_conversion_share is
    'share of slates with at least one conversion';
