-- What the rules that hold now say about a list.
create or replace function serving.ruling(
    placement text,
    about jsonb,
    named text[] default null,
    out path jsonpath,
    out gone text[],
    out kept text[],
    out shaping text[]
)
language sql stable as $$
    with obeyed as materialized (
        select rules.*
        from public.placement_rules as rules
        where rules.rule = any (coalesce(named, array(
                select held.rule from public.placement_rules as held
                where serving.is_valid(held.valid_from, held.valid_until)
            )))
            and (rules.placements is null or ruling.placement = any (rules.placements))
            and (rules.audience_path is null or about @@ rules.audience_path)
    )
    select
        string_agg(
            case
                when kind = 'only' then item_path::text
                -- Of a value that cannot be compared it is not known whether it matches, so it is not excluded.
                when kind = 'exclude' and item_path is not null
                    then format('(!(%1$s) || (%1$s) is unknown)', item_path)
            end,
            ' && '
        )::jsonpath,
        array(select unnest(item_ids) from obeyed where kind = 'exclude'),
        case when bool_or(kind = 'only' and item_ids is not null) then
            array(
                select listed.item_id
                from obeyed
                cross join unnest(obeyed.item_ids) with ordinality as listed (item_id, place)
                where obeyed.kind = 'only'
                group by listed.item_id
                having count(distinct obeyed.rule)
                    = (select count(item_ids) from obeyed where obeyed.kind = 'only')
                order by min(listed.place), listed.item_id
            )
        end,
        array_agg(rule order by priority desc, created_at, rule) filter (where kind not in ('exclude', 'only'))
    from obeyed
$$;

comment on function serving.ruling(text, jsonb, text[]) is
    'what rules say about a placement for somebody with these attributes: what is excluded, as a predicate and as ids, '
    'the only ids that may be shown (null: any), and the rules that shape the list, the strongest first; of the rules '
    'that are named, or else of those that hold now';
