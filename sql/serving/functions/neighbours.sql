-- Items that go with an item: by what people did, or by their vectors.
create or replace function serving.neighbours(item_id text, kind text, most integer)
returns table (ids text[], scores real[])
language sql stable rows 1 as $$
    select lists.item_ids, lists.scores
    from public.item_lists as lists
    where lists.kind = neighbours.kind and lists.item_id = neighbours.item_id
    union all
    select
        array_agg(found.item_id order by found.similarity desc, found.item_id),
        array_agg(found.similarity order by found.similarity desc, found.item_id)
    from (
        select other.item_id, (1 - (other.vector <=> own.vector))::real as similarity
        from public.item_vectors as own, public.item_vectors as other
        where kind = 'similar' and own.item_id = neighbours.item_id and other.item_id <> own.item_id
        order by other.vector <=> own.vector
        limit most
    ) as found
    where kind = 'similar'
$$;

comment on function serving.neighbours(text, text, integer) is
    'items that go with an item, best first: similar, together or next';
