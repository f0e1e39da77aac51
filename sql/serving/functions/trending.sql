-- What is trending, for all or for a segment.
create or replace function serving.trending(segment text default null, k integer default 10)
returns setof serving.recommendation
language plpgsql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    source text;
    list record;
    more record;
    shown integer := 0;
    gone text[] := '{}';
    things text[] := '{}';
begin
    if k is null or k not between 1 and 1000 then
        raise exception 'k is %', coalesce(k::text, 'NULL')
            using errcode = 'invalid_parameter_value', hint = 'Ask for 1 to 1000 items.';
    end if;
    foreach source in array array['segment', 'trending', 'popular'] loop
        continue when source = 'segment' and segment is null;
        select lists.item_ids, lists.scores into list
        from serving.shared_list(source, null, segment) as lists;
        more := serving.choose(list.item_ids, list.scores, gone, things, null, k - shown);
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

comment on function serving.trending(text, integer) is
    'what is trending, for a segment first if one is named; filled up with what is popular of all time';
