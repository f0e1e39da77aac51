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
    more record;
begin
    if path is not null then
        step := 3 * step;
    end if;
    -- With many items, one hash costs less than a search for each candidate.
    if cardinality(gone) > 100 then
        gone := array(select unnest(ids) intersect select unnest(gone));
    end if;
    while missing > 0 and first <= size loop
        select
            array_agg(best.item_id order by best.place) as chosen,
            array_agg(case best.title when '' then best.item_id else best.title end order by best.place) as titles,
            array_agg(best.score order by best.place) as scores,
            array_agg(best.thing order by best.place) as things
        into more
        from (
            select
                found.*,
                listed.score,
                listed.place,
                row_number() over (partition by found.thing order by listed.place) as variant
            from unnest(ids[first:first + step - 1], scores[first:first + step - 1])
                with ordinality as listed (item_id, score, place)
            cross join lateral (
                select items.item_id, items.title, coalesce(items.variant_of, items.item_id) as thing
                from public.items
                where items.item_id = listed.item_id
                    and serving.is_available(items.available, items.available_from, items.available_until)
                    and (path is null or items.attributes @@ path)
                offset 0
            ) as found
            where listed.item_id <> all (gone) and found.thing <> all (things)
        ) as best
        where best.variant = 1;
        if more.chosen is not null then
            chosen := chosen || more.chosen[:missing];
            titles := titles || more.titles[:missing];
            chosen_scores := chosen_scores || more.scores[:missing];
            chosen_things := chosen_things || more.things[:missing];
            things := things || more.things;
            missing := wanted - cardinality(chosen);
        end if;
        first := first + step;
        step := 2 * step;
    end loop;
end $$;

comment on function serving.choose(text[], real[], text[], text[], jsonpath, integer) is
    'the first of these items that are available, match the filter, and are neither among those that are gone nor '
    'variants of things already shown; null if there is none';
