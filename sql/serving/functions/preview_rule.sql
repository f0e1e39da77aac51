-- Show what a rule would change, or changes: the lists that applications would get with it and without it. The rule is
-- switched off and on in a part of the transaction that is rolled back, so nobody else sees it.
create or replace function serving.preview_rule(rule text, people integer default 100, context jsonb default '{}')
returns table (
    placement text, item_id text, title text, gained bigint, lost bigint, rose bigint, fell bigint, note text
)
language plpgsql as $$
#variable_conflict use_column
declare
    judged public.placement_rules;
    share real;
    audience text[];
    before jsonb;
    after jsonb;
begin
    select rules.* into judged from public.placement_rules as rules where rules.rule = preview_rule.rule;
    if not found then
        raise exception 'there is no rule %', coalesce(quote_literal(rule), 'NULL')
            using errcode = 'invalid_parameter_value',
                hint = 'Insert it into placement_rules without valid_from, as a draft.';
    end if;
    if people is null or people not between 1 and 10000 then
        raise exception 'people is %', coalesce(people::text, 'NULL')
            using errcode = 'invalid_parameter_value', hint = 'Ask for 1 to 10000.';
    end if;

    return query
    select
        null::text, named.item_id, items.title, null::bigint, null::bigint, null::bigint, null::bigint,
        case when items.item_id is null then 'does not exist' else 'is not available now' end
    from unnest(judged.item_ids) with ordinality as named (item_id, number)
    left join public.items on items.item_id = named.item_id
    where items.item_id is null
        or (
            judged.kind <> 'exclude'
            and not serving.is_available(items.available, items.available_from, items.available_until)
        )
    order by named.number
    limit 100;
    if judged.item_path is not null
        and not exists (select from public.items where items.attributes @@ judged.item_path)
    then
        return query
        select
            null::text, null::text, null::text, null::bigint, null::bigint, null::bigint, null::bigint,
            'no item matches the filter';
    end if;

    -- Pages are drawn, not rows, so that a large table is not read. Half of them are spare. Null is a visitor.
    select case when pg_class.reltuples > 0 then least(100, greatest(1, 200 * people / pg_class.reltuples)) else 100 end
    into share
    from pg_class where pg_class.oid = 'public.recommendation_lists'::regclass;
    audience := array(
        select lists.user_id
        from public.recommendation_lists as lists tablesample system (share) repeatable (0)
        limit people
    ) || null::text;
    begin
        update public.placement_rules as rules set valid_from = null where rules.rule = judged.rule;
        before := serving.lists_of(audience, judged.placements, context);
        update public.placement_rules as rules
        set valid_from = '-infinity', valid_until = null where rules.rule = judged.rule;
        after := serving.lists_of(audience, judged.placements, context);
        raise exception using errcode = 'RULED';
    exception
        when sqlstate 'RULED' then
            null;  -- the rule is as it was
    end;
    return query
    select
        coalesce(new.placement, old.placement),
        coalesce(new.item_id, old.item_id),
        max(coalesce(new.title, old.title)),
        count(*) filter (where old.rank is null),
        count(*) filter (where new.rank is null),
        count(*) filter (where new.rank < old.rank),
        count(*) filter (where new.rank > old.rank),
        null::text
    from jsonb_to_recordset(before) as old (person integer, placement text, item_id text, title text, rank integer)
    full join jsonb_to_recordset(after) as new (person integer, placement text, item_id text, title text, rank integer)
        on new.person = old.person and new.placement = old.placement and new.item_id = old.item_id
    where new.rank is distinct from old.rank
    group by 1, 2
    order by 1, 4 desc, 5 desc, 6 desc, 7 desc, 2;
end $$;

comment on function serving.preview_rule(text, integer, jsonb) is
    'what a rule, draft or live, changes for a sample of people with a list and for a visitor: how many gain and lose each '
    'item, and for how many it rises and falls; first, without a placement, what is wrong with its items';
