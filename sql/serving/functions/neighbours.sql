-- Items that go with an item, as they were listed: by what people did, or by their vectors.
create or replace function serving.neighbours(item_id text, kind text)
returns table (ids text[], scores real[])
language sql stable rows 1 as $$
    select lists.item_ids, lists.scores
    from public.item_lists as lists
    where lists.kind = neighbours.kind and lists.item_id = neighbours.item_id
$$;

comment on function serving.neighbours(text, text) is
    'items that go with an item, best first: similar, together or next';
