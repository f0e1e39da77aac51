create materialized view analytics.item_concentration as
with catalogue as (
    select count(*) as items from public.items
),
consumed as (
    select month, item_id, events
    from public.feedback_by_item
    join public.items using (item_id)
    where month is not null
),
-- Months of fewer people are left out, who would be recognised: MIN_PEOPLE in recsys.warehouse.analytics.
months as (
    select month
    from (select distinct month from public.feedback_by_item where month is not null) as known
    where (
        select count(*)
        from (
            select distinct user_id
            from public.feedback
            where occurred_at >= known.month::timestamp at time zone 'UTC'
                and occurred_at < (known.month + interval '1 month') at time zone 'UTC'
            limit 5
        ) as people
    ) = 5
),
ranked as (
    select
        month,
        events,
        row_number() over (partition by month order by events desc) as rank
    from consumed
    join months using (month)
)
select
    month,
    sum(events)::bigint as events,
    count(*) as items,
    catalogue.items as catalogue_items,
    count(*)::double precision / catalogue.items as coverage,
    -- Items without events rank last and add nothing to the sum.
    (sum(events * (catalogue.items + 1 - 2 * rank)) / (sum(events) * catalogue.items))::double precision as gini,
    (sum(events) filter (where rank <= ceil(catalogue.items / 10.0)) / sum(events))::double precision
        as top_tenth_share
from ranked
cross join catalogue
group by month, catalogue.items;

-- A concurrent refresh needs a unique index.
create unique index item_concentration_key on analytics.item_concentration (month);

comment on materialized view analytics.item_concentration is
    'How much of the catalogue users react to each month, and how unevenly. A comparison with '
    'recommendation_coverage shows whether recommendations narrow or widen what people use. Months '
    'with feedback of fewer than five people are left out. As of the last refresh.';
comment on column analytics.item_concentration.month is 'first day of the month (UTC) in which the events happened';
comment on column analytics.item_concentration.events is 'feedback events of all types';
comment on column analytics.item_concentration.items is 'items with at least one event';
comment on column analytics.item_concentration.catalogue_items is 'all items at the time of the refresh';
comment on column analytics.item_concentration.coverage is 'items / catalogue_items';
comment on column analytics.item_concentration.gini is
    'concentration of events over the catalogue: 0 if all items are equal, near 1 if a few items get all';
comment on column analytics.item_concentration.top_tenth_share is
    'share of the events that are on the most used tenth of the catalogue';
