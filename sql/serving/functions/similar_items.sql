-- What goes with an item, for a page about it. The same for everybody: nothing here is about a user.
create or replace function serving.similar_items(
    item_id text, kind text default 'similar', k integer default 10, filter jsonb default '{}',
    language text default null
) returns setof serving.recommendation
language plpgsql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    if kind is null or kind not in ('similar', 'together', 'next') then
        raise exception 'kind is %', coalesce(quote_literal(kind), 'NULL')
            using errcode = 'invalid_parameter_value', hint = 'Ask for similar, together or next.';
    end if;
    return query
    select * from serving.fill_up(
        sources => case kind when 'similar' then '{}' else array[kind] end || '{similar,popular}'::text[],
        wanted => serving.checked_length(k),
        path => serving.filter_path(filter),
        gone => array[coalesce(similar_items.item_id, '')],
        things => array(
            select coalesce(items.variant_of, items.item_id) from items where items.item_id = similar_items.item_id
        ),
        most => k + 200,
        item_id => similar_items.item_id,
        words => serving.words(similar_items.language)
    );
end $$;

comment on function serving.similar_items(text, text, integer, jsonb, text) is
    'what goes with an item: similar (by its text and by who liked it), together (had by the same people within a day) '
    'or next (had after it); filled up with what is similar, then with what is popular';
