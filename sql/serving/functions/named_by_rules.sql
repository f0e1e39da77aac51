-- Items that rules want in a list and that are not among its candidates.
create or replace function serving.named_by_rules(
    list serving.recommendation[], strongest_first text[], kept text[], gone text[], path jsonpath, wanted integer
) returns serving.recommendation[]
language plpgsql stable as $$
#variable_conflict use_column
declare
    hidden text[] := gone || array(select listed.item_id from unnest(list) as listed);
    ids text[];
    quota record;
begin
    ids := array(
        select named.item_id
        from public.placement_rules as rules
        cross join unnest(rules.item_ids) with ordinality as named (item_id, number)
        where rules.rule = any (strongest_first)
            and (rules.kind = 'at_least' or (rules.kind = 'pin' and rules.position <= wanted))
        group by named.item_id
        order by min(named.number), named.item_id
    );
    for quota in
        select rules.item_path, rules.number from public.placement_rules as rules
        where rules.rule = any (strongest_first) and rules.kind = 'at_least' and rules.item_path is not null
    loop
        ids := ids || array(
            select newest.item_id
            from serving.newest(hidden, serving.both_paths(path, quota.item_path), quota.number) as newest
        );
    end loop;
    -- Both lists may be long: they are hashed here, once.
    ids := array(
        select named.item_id
        from unnest(ids) with ordinality as named (item_id, number)
        where named.item_id not in (select unnest(hidden))
            and (kept is null or named.item_id in (select unnest(kept)))
        order by named.number
    );
    return array(
        select row(
            0, item.item_id, item.title, 0, '', 'rule', null, null, (list[1]).placement, null
        )::serving.recommendation
        from serving.chosen(
            ids, array_fill(0::real, array[cardinality(ids)]), '{}', '{}', path
        ) as item
        order by item.place
    );
end $$;

comment on function serving.named_by_rules(serving.recommendation[], text[], text[], text[], jsonpath, integer) is
    'items of pins and quotas that may be shown and that a list does not have, as rows';
