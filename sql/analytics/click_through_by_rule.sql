create materialized view analytics.click_through_by_rule as
select
    rule,
    day,
    slates,
    shown,
    case when cardinality(reacting_people) not between 1 and 4 then reactions end as reactions,
    case when cardinality(clicking_people) not between 1 and 4 then clicks end as clicks,
    case when cardinality(converting_people) not between 1 and 4 then conversions end as conversions,
    case when cardinality(clicking_people) not between 1 and 4 then clicks::double precision / shown end
        as click_through_rate,
    case when cardinality(converting_people) not between 1 and 4 then conversions::double precision / shown end
        as conversion_rate
from public.slates_by_day
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
where rule is not null and cardinality(people) >= 5;

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
