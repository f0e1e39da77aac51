-- Choose the first items that may be shown. A few are looked up at a time, so that the cost is that of what is shown and
-- not of the pool. Each look-up is lateral: in a join over arrays of unknown length, a plan may read the whole catalogue.
create or replace function serving.choose(
    ids text[], scores real[], gone text[], things text[], path jsonpath, wanted integer,
    out chosen text[], out titles text[], out chosen_scores real[], out chosen_things text[]
)
language plpgsql stable as $$
declare
    size constant integer := coalesce(cardinality(ids), 0);
    first integer := 1;
    step integer := wanted + wanted / 4 + 2;
    missing integer := wanted;
    candidate record;
    given constant integer := cardinality(things);
begin
    if path is not null then
        step := 3 * step;
    end if;
    -- With many items, they are hashed once and not for each step.
    if cardinality(gone) > 100 then
        gone := array(select unnest(ids) intersect select unnest(gone));
    end if;
    while missing > 0 and first <= size loop
        for candidate in
            select item.item_id, item.title, item.thing, listed.score
            from unnest(ids[first:first + step - 1], scores[first:first + step - 1])
                with ordinality as listed (item_id, score, place)
            cross join lateral (
                select items.item_id, items.title, coalesce(items.variant_of, items.item_id) as thing
                from public.items
                where items.item_id = listed.item_id
                    and serving.is_available(items.available, items.available_from, items.available_until)
                    and (path is null or items.attributes @@ path)
                offset 0
            ) as item
            where listed.item_id not in (select unnest(gone))
            order by listed.place
        loop
            continue when candidate.thing = any (things);
            chosen := chosen || candidate.item_id;
            titles := titles || case candidate.title when '' then candidate.item_id else candidate.title end;
            chosen_scores := chosen_scores || candidate.score;
            things := things || candidate.thing;
            missing := missing - 1;
            exit when missing = 0;
        end loop;
        first := first + step;
        step := 2 * step;
    end loop;
    chosen_things := things[given + 1:];
end $$;

comment on function serving.choose(text[], real[], text[], text[], jsonpath, integer) is
    'the first of these items that are available, match the filter, and are neither among those that are gone nor '
    'variants of things already shown; null if there is none';
