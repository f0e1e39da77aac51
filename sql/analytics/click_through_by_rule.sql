create materialized view analytics.click_through_by_rule as
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
        shown.rule,
        (impressions.shown_at at time zone 'UTC')::date as day,
        count(distinct impressions.impression_id) as slates,
        count(*) as shown,
        count(reactions.item_id) as reactions,
        count(*) filter (where reactions.clicked) as clicks,
        count(*) filter (where reactions.converted) as conversions,
        count(distinct impressions.user_id) as people,
        count(distinct reactions.user_id) as reacting_people,
        count(distinct reactions.user_id) filter (where reactions.clicked) as clicking_people,
        count(distinct reactions.user_id) filter (where reactions.converted) as converting_people
    from public.impressions
    cross join lateral (
        select distinct entry.item_id, entry.rule
        from unnest(impressions.item_ids, impressions.rules) as entry (item_id, rule)
        where entry.item_id is not null and entry.rule is not null
    ) as shown
    left join reactions
        on reactions.impression_id = impressions.impression_id
        and reactions.user_id = impressions.user_id
        and reactions.item_id = shown.item_id
    where impressions.rules is not null
    group by 1, 2
)

select
    rule,
    day,
    slates,
    shown,
    case when reacting_people not between 1 and 4 then reactions end as reactions,
    case when clicking_people not between 1 and 4 then clicks end as clicks,
    case when converting_people not between 1 and 4 then conversions end as conversions,
    case when clicking_people not between 1 and 4 then clicks::double precision / shown end as click_through_rate,
    case when converting_people not between 1 and 4 then conversions::double precision / shown end
        as conversion_rate
from counted
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where people >= 5;

-- A concurrent refresh needs a unique index.
create unique index click_through_by_rule_key on analytics.click_through_by_rule (rule, day);

comment on materialized view analytics.click_through_by_rule is
    'How often each rule of placements put an item into a slate that was logged, and the reactions of users to these '
    'items, by the UTC day on which the slate was shown. Days on which fewer than five people saw an item of the rule are '
    'left out, and so are figures of one to four people. As of the last refresh.';
comment on column analytics.click_through_by_rule.rule is 'as logged with the impression';
comment on column analytics.click_through_by_rule.day is 'UTC';
comment on column analytics.click_through_by_rule.slates is 'impressions with an item that the rule placed';
comment on column analytics.click_through_by_rule.shown is 'such items in them';
comment on column analytics.click_through_by_rule.reactions is 'of those, items with feedback of any type';
comment on column analytics.click_through_by_rule.clicks is
    'of those, items with an event of type click, or of another type that is a step; a second one does not count';
comment on column analytics.click_through_by_rule.conversions is 'of those, items with an event of a type that is an outcome; of those with a value, a positive one';
comment on column analytics.click_through_by_rule.click_through_rate is 'clicks / shown';
comment on column analytics.click_through_by_rule.conversion_rate is 'conversions / shown';
