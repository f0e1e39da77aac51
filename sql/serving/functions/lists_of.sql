-- The lists that people see now, to be compared with others.
create or replace function serving.lists_of(people text[], placements text[], context jsonb) returns jsonb
language sql stable as $$
    select coalesce(
        jsonb_agg(
            jsonb_build_object(
                'person', audience.number, 'placement', place.placement, 'item_id', shown.item_id,
                'title', shown.title, 'rank', shown.rank
            )
        ),
        '[]'
    )
    from unnest(people) with ordinality as audience (user_id, number)
    cross join public.placements as place
    cross join lateral serving.recommend(audience.user_id, place.placement, context => lists_of.context) as shown
    where lists_of.placements is null or place.placement = any (lists_of.placements)
$$;

comment on function serving.lists_of(text[], text[], jsonb) is
    'the lists of these people, by their number, in these placements; null: in all';
