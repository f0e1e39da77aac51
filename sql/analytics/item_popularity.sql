create materialized view analytics.item_popularity as
with consumed as (
    select
        item_id,
        events,
        people as users,
        case when rating_people >= 5 then (sum_of_ratings / ratings)::double precision end as average_rating,
        date_trunc('day', last_event_at, 'UTC') as last_event_at
    from public.feedback_by_item
    -- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
    where month is null and people >= 5
),
recommended as (
    select item_id, count(*) as lists, avg(rank) as average_rank
    from public.recommendation_lists
    cross join lateral unnest(item_ids) with ordinality as entry (item_id, rank)
    group by item_id
    having count(*) >= 5
)
select
    items.item_id,
    items.title,
    items.available
        and coalesce(items.available_from <= now(), true)
        and coalesce(items.available_until > now(), true) as available,
    consumed.events,
    consumed.users,
    consumed.average_rating,
    consumed.last_event_at,
    rank() over (order by coalesce(consumed.events, 0) desc) as popularity_rank,
    consumed.events::double precision / sum(consumed.events) over ()::double precision as share_of_events,
    recommended.lists as recommended_to_users,
    recommended.average_rank::double precision as average_recommended_rank
from public.items
left join consumed using (item_id)
left join recommended using (item_id);

-- A concurrent refresh needs a unique index.
create unique index item_popularity_key on analytics.item_popularity (item_id);

comment on materialized view analytics.item_popularity is
    'Every item with the number of its events and of the lists that recommend it now; figures of fewer than five people '
    'are null. '
    'As of the last refresh (after each publication and in housekeeping).';
comment on column analytics.item_popularity.popularity_rank is
    '1 for the item with the most events; equal numbers share a rank, and events of fewer than five people count as none';
comment on column analytics.item_popularity.share_of_events is 'share of the events that are shown';
comment on column analytics.item_popularity.recommended_to_users is 'published lists that contain the item';
comment on column analytics.item_popularity.average_recommended_rank is 'mean rank in those lists; 1 is the top';
comment on column analytics.item_popularity.item_id is 'the application''s id of the item';
comment on column analytics.item_popularity.title is 'as in the catalogue';
comment on column analytics.item_popularity.available is 'whether the item may be recommended now';
comment on column analytics.item_popularity.events is 'feedback events of all types';
comment on column analytics.item_popularity.users is 'distinct users among them';
comment on column analytics.item_popularity.average_rating is 'mean rating; null if fewer than five people have rated it';
comment on column analytics.item_popularity.last_event_at is 'UTC day of the latest of them';
