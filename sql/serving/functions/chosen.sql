-- Choose from candidates those that may be shown, in their order. Postgres puts this query in the place of each call.
-- The look-up is lateral: it keeps the order, and in a join over arrays of unknown length a plan might read the whole
-- catalogue. Where no candidate is a variant, candidates are not compared with each other; in a catalogue without variants
-- no more of them are looked up than a caller takes.
create or replace function serving.chosen(ids text[], scores real[], gone text[], things text[], path jsonpath)
returns table (item_id text, title text, score real, thing text, place bigint)
language sql stable rows 10 as $$
    with qualified as materialized (
        select
            listed.item_id,
            item.title,
            listed.score,
            coalesce(item.variant_of, listed.item_id) as thing,
            item.variant_of,
            listed.place
        from unnest(ids, scores) with ordinality as listed (item_id, score, place)
        cross join lateral (
            select items.title, items.variant_of
            from public.items
            where items.item_id = listed.item_id
                and serving.is_available(items.available, items.available_from, items.available_until)
                and (path is null or items.attributes @@ path)
            offset 0
        ) as item
        where listed.item_id <> all (gone)
    )
    select item_id, case title when '' then item_id else title end, score, thing, place
    from qualified
    where thing <> all (things)
        and (
            not exists (select from public.items where items.variant_of is not null)
            or not (select coalesce(bool_or(variant_of is not null), false) from qualified)
            or not exists (
                select from qualified as better where better.place < qualified.place and better.thing = qualified.thing
            )
        )
$$;

comment on function serving.chosen(text[], real[], text[], text[], jsonpath) is
    'those of these items that are available, match the filter, and are neither among those that are gone nor variants '
    'of things already shown; their place is that among the candidates';
