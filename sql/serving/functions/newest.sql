-- The last resort: what the catalogue has, if it matches. It reads the index of items by age, or that of attributes.
create or replace function serving.newest(gone text[], path jsonpath, most integer) returns table (item_id text)
language sql stable rows 10 as $$
    select items.item_id
    from public.items
    where serving.is_available(items.available, items.available_from, items.available_until)
        and (path is null or items.attributes @@ path)
        and not exists (select from unnest(gone) as had (item_id) where had.item_id = items.item_id)
    order by items.created_at desc, items.item_id desc
    limit most
$$;

comment on function serving.newest(text[], jsonpath, integer) is 'the newest items that are available and match a filter';
