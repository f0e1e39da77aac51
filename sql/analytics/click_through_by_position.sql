create materialized view analytics.click_through_by_position as
with reactions as (
    select
        impression_id,
        user_id,
        item_id,
        bool_or(event_type = 'click' or role = 'step') as clicked,
        -- What somebody wanted to happen, and did not dislike.
        bool_or(role = 'outcome' and (polarity = 1 or polarity = 0 and value >= positive_from)) as converted
    from public.feedback
    left join public.event_types using (event_type)
    where impression_id is not null
    group by impression_id, user_id, item_id
),
counted as (
    select
        coalesce(impressions.model_version, 'unknown') as model_version,
        shown.position,
        count(*) as shown,
        count(reactions.item_id) as reactions,
        count(*) filter (where reactions.clicked) as clicks,
        count(*) filter (where reactions.converted) as conversions,
        avg(impressions.propensities[shown.position])::double precision as average_propensity,
        count(distinct impressions.user_id) as people,
        count(distinct reactions.user_id) as reacting_people,
        count(distinct reactions.user_id) filter (where reactions.clicked) as clicking_people,
        count(distinct reactions.user_id) filter (where reactions.converted) as converting_people,
        count(distinct impressions.user_id) filter (where impressions.propensities is not null) as logged_people
    from public.impressions
    cross join lateral (
        select item_id, min(position)::integer as position
        from unnest(impressions.item_ids) with ordinality as entry (item_id, position)
        where item_id is not null
        group by item_id
    ) as shown
    left join reactions
        on reactions.impression_id = impressions.impression_id
        and reactions.user_id = impressions.user_id
        and reactions.item_id = shown.item_id
    group by coalesce(impressions.model_version, 'unknown'), shown.position
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
