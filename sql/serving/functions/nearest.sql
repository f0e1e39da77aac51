-- What lies in the direction of somebody's reactions, for those who have no pool, or of one item, where more is wanted than
-- was listed. It looks through all vectors.
create or replace function serving.nearest(reacted text[], weights real[], most integer)
returns table (ids text[], scores real[])
language sql stable rows 1 as $$
    select
        array_agg(found.item_id order by found.similarity desc, found.item_id collate "C"),
        array_agg(found.similarity order by found.similarity desc, found.item_id collate "C")
    from (
        select item_vectors.item_id, (1 - (item_vectors.vector <=> interest.direction))::real as similarity
        from serving.interest(reacted, weights) as interest, public.item_vectors
        where interest.direction is not null
        order by item_vectors.vector <=> interest.direction
        limit most
    ) as found
    where found.similarity <> 'NaN'  -- a vector without length has no direction
$$;

comment on function serving.nearest(text[], real[], integer) is 'items whose vectors are nearest to a taste, nearest first';
