-- What goes with an item, for a page about it. The same for everybody: nothing here is about a user.
create or replace function serving.similar_items(
    item_id text, kind text default 'similar', k integer default 10, filter jsonb default '{}'
) returns setof serving.recommendation
language plpgsql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    path jsonpath := serving.filter_path(filter);
    gone text[] := array[coalesce(item_id, '')];
    things text[] := array(
        select coalesce(items.variant_of, items.item_id) from items where items.item_id = similar_items.item_id
    );
    source text;
    list record;
    more record;
    shown integer := 0;
begin
    if kind is null or kind not in ('similar', 'together', 'next') then
        raise exception 'kind is %', coalesce(quote_literal(kind), 'NULL')
            using errcode = 'invalid_parameter_value', hint = 'Ask for similar, together or next.';
    end if;
    if k is null or k not between 1 and 1000 then
        raise exception 'k is %', coalesce(k::text, 'NULL')
            using errcode = 'invalid_parameter_value', hint = 'Ask for 1 to 1000 items.';
    end if;
    foreach source in array case kind when 'similar' then '{}' else array[kind] end || '{similar,popular}'::text[] loop
        if source = 'popular' then
            select lists.item_ids as ids, lists.scores into list from serving.shared_list(source, null) as lists;
        else
            select near.ids, near.scores into list
            from serving.neighbours(item_id, source, k + 200) as near;
        end if;
        more := serving.choose(list.ids, list.scores, gone, things, path, k - shown);
        continue when more.chosen is null;
        return query
        select
            shown + item.number::integer,
            item.item_id,
            item.title,
            item.score,
            serving.shared_reason(source),
            source,
            1::real,
            null::text,
            null::text
        from unnest(more.chosen, more.titles, more.chosen_scores) with ordinality
            as item (item_id, title, score, number)
        order by item.number;
        shown := shown + cardinality(more.chosen);
        exit when shown >= k;
        gone := gone || more.chosen;
        things := things || more.chosen_things;
    end loop;
end $$;

comment on function serving.similar_items(text, text, integer, jsonb) is
    'what goes with an item: similar (by its text and by who liked it), together (had by the same people within a day) '
    'or next (had after it); filled up with what is similar, then with what is popular';
