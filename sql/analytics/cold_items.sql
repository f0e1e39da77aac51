create materialized view analytics.cold_items as
with consumed as (
    select item_id, people from public.feedback_by_item where month is null
),
recommended as (
    select item_id, count(*) as lists, min(rank) as best_rank
    from public.recommendation_lists
    cross join lateral unnest(item_ids) with ordinality as entry (item_id, rank)
    group by item_id
)
select
    items.item_id,
    items.title,
    items.created_at,
    item_vectors.item_id is not null as has_vector,
    -- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
    case when recommended.lists >= 5 then recommended.lists end as recommended_to_users,
    case when recommended.lists >= 5 then recommended.best_rank end as best_rank
from public.items
left join consumed using (item_id)
left join recommended using (item_id)
left join public.item_vectors using (item_id)
where items.available
    and coalesce(items.available_from <= now(), true)
    and coalesce(items.available_until > now(), true)
    and coalesce(consumed.people, 0) < 5;

-- A concurrent refresh needs a unique index.
create unique index cold_items_key on analytics.cold_items (item_id);

comment on materialized view analytics.cold_items is
    'Available items with feedback of fewer than five people, and whether they are recommended. '
    'As of the last refresh.';
comment on column analytics.cold_items.item_id is 'the application''s id of the item';
comment on column analytics.cold_items.title is 
    'as in the catalogue; the model knows little about items without title and description';
comment on column analytics.cold_items.created_at is 'when the item was added to the catalogue';
comment on column analytics.cold_items.has_vector is 'whether the last publication contained the item';
comment on column analytics.cold_items.recommended_to_users is 'published lists that contain it; null for fewer than five';
comment on column analytics.cold_items.best_rank is 'best rank of the item in those lists; 1 is the top; null for fewer than five lists';
