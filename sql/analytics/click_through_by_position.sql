create materialized view analytics.click_through_by_position as
with counted as (
    select
        model_version,
        position,
        sum(shown)::bigint as shown,
        sum(reactions)::bigint as reactions,
        sum(clicks)::bigint as clicks,
        sum(conversions)::bigint as conversions,
        sum(sum_of_propensities) / nullif(sum(propensities), 0) as average_propensity,
        cardinality(public.five_people(people)) as people,
        cardinality(public.five_people(reacting_people)) as reacting_people,
        cardinality(public.five_people(clicking_people)) as clicking_people,
        cardinality(public.five_people(converting_people)) as converting_people,
        cardinality(public.five_people(logged_people)) as logged_people
    from public.slates_by_day
    where position is not null
    group by model_version, position
)

select
    model_version,
    position,
    shown,
    case when reacting_people not between 1 and 4 then reactions end as reactions,
    case when clicking_people not between 1 and 4 then clicks end as clicks,
    case when converting_people not between 1 and 4 then conversions end as conversions,
    case when clicking_people not between 1 and 4 then clicks::double precision / shown end as click_through_rate,
    case when converting_people not between 1 and 4 then conversions::double precision / shown end
        as conversion_rate,
    case when logged_people >= 5 then average_propensity end as average_propensity
from counted
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where people >= 5;

-- A concurrent refresh needs a unique index.
create unique index click_through_by_position_key
    on analytics.click_through_by_position (model_version, position);

comment on materialized view analytics.click_through_by_position is
    'Reactions of users to items at each position of a slate, by model version. Positions that fewer than five people '
    'saw are left out, and so are figures of one to four people. As of the last refresh.';
comment on column analytics.click_through_by_position.model_version is
    'as logged with the impression; unknown if none was logged';
comment on column analytics.click_through_by_position.position is
    '1 is the first; an item that is twice in a slate counts at its first position';
comment on column analytics.click_through_by_position.shown is 'slates with a known item at this position';
comment on column analytics.click_through_by_position.reactions is
    'of those, slates with feedback of any type on the item';
comment on column analytics.click_through_by_position.clicks is
    'of those, slates with an event on the item of type click, or of another type that is a step';
comment on column analytics.click_through_by_position.conversions is
    'of those, slates with an event on the item of a type that is an outcome; of those with a value, a positive one';
comment on column analytics.click_through_by_position.click_through_rate is 'clicks / shown';
comment on column analytics.click_through_by_position.conversion_rate is 'conversions / shown';
comment on column analytics.click_through_by_position.average_propensity is
    'mean logged probability of showing the item there; null if none was logged';
