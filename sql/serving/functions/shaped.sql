-- Let rules choose from a list and order it. Offers are judged one after another: those of each rule, the strongest rule
-- first, then all items in their order. An item is taken unless a limit of a stronger rule is reached, so a pin or a quota
-- may exceed the limits of weaker rules, and what merely ranks well exceeds none.
create or replace function serving.shaped(
    list serving.recommendation[],
    strongest_first text[],
    kept text[],
    gone text[],
    path jsonpath,
    diversity jsonb,
    wanted integer
) returns serving.recommendation[]
language plpgsql stable as $$
declare
    offer record;
    places integer[] := '{}';  -- in the list, of what is taken
    positions integer[] := '{}';  -- where it is pinned; null: in its order
    orders integer[] := '{}';  -- its number in the order that boosts give the list
    placed_by text[] := '{}';
    counted text[] := '{}';  -- a key for each limit and quota that an item counts for
    pinned_at integer;
    known constant serving.recommendation[] := list
        || serving.named_by_rules(list, strongest_first, kept, gone, path, wanted);
begin
    for offer in
        with rules as materialized (
            select
                named.strength, rules.kind, rules.rule, rules.reason, rules.item_ids, rules.item_path, rules.position,
                rules.factor, rules.number, rules.attribute
            from unnest(strongest_first) with ordinality as named (rule, strength)
            join public.placement_rules as rules on rules.rule = named.rule
            union all
            select
                1000000 + row_number() over (), 'at_most', null, null, null, null, null, null, varied.number::numeric::integer,
                varied.attribute
            from jsonb_each_text(diversity) as varied (attribute, number)
        ),
        candidates as materialized (
            select listed.item_id, listed.place, known.attributes, known.thing
            from unnest(known) with ordinality as listed (
                rank, item_id, title, score, reason, source, propensity, model_version, placement, rule, place
            )
            cross join lateral (
                select items.attributes, coalesce(items.variant_of, items.item_id) as thing
                from public.items
                where items.item_id = listed.item_id
                offset 0
            ) as known
        ),
        matches as materialized (
            select candidates.place, rules.strength, named.number
            from rules
            cross join unnest(rules.item_ids) with ordinality as named (item_id, number)
            join candidates on candidates.item_id = named.item_id
            union all
            select candidates.place, rules.strength, null
            from rules
            join candidates on coalesce(candidates.attributes @@ rules.item_path, rules.item_path is null)
            where rules.item_ids is null
        ),
        ordered as materialized (
            select
                candidates.place,
                candidates.attributes,
                candidates.thing,
                row_number() over (
                    -- Rounded, so that what is equal is a tie.
                    order by round((ln(candidates.place) - coalesce(moved.amount, 0))::numeric, 6), candidates.place
                ) as number,
                case when moved.amount > 0 then moved.strength end as boosted_by
            from candidates
            left join (
                select
                    matches.place,
                    sum(case rules.kind when 'boost' then ln(rules.factor) else -ln(rules.factor) end) as amount,
                    min(rules.strength) filter (where rules.kind = 'boost') as strength
                from matches
                join rules on rules.strength = matches.strength
                where rules.kind in ('boost', 'bury')
                group by matches.place
            ) as moved on moved.place = candidates.place
        ),
        limits as materialized (
            select
                matches.place,
                array_agg(rules.strength || coalesce('/' || counts.value, '')) as keys,
                array_agg(rules.number) as numbers,
                array_agg(rules.strength) as strengths,
                array_agg(rules.kind) as kinds
            from matches
            join rules on rules.strength = matches.strength
            join candidates on candidates.place = matches.place
            cross join lateral (
                select null as value where rules.attribute is null
                union all
                select distinct found.value #>> '{}'
                from jsonb_path_query(
                    candidates.attributes -> rules.attribute, '$[*]'
                ) as found (value)
                where rules.attribute is not null and jsonb_typeof(found.value) <> 'null'
            ) as counts
            where rules.kind in ('at_most', 'at_least')
            group by matches.place
        ),
        -- A pin is shown instead of other variants of its thing.
        variants as (
            select other.place
            from matches
            join rules on rules.strength = matches.strength and rules.kind = 'pin'
            join candidates as pinned on pinned.place = matches.place
            join candidates as other on other.thing = pinned.thing and other.place <> pinned.place
        ),
        offers as (
            select matches.place, rules.strength, rules.kind, rules.rule, rules.number, rules.position, matches.number as sub
            from matches
            join rules on rules.strength = matches.strength
            where rules.kind in ('pin', 'at_least')
            union all
            select ordered.place, 2000000, 'rank', boosting.rule, null, null, null
            from ordered
            left join rules as boosting on boosting.strength = ordered.boosted_by
        )
        select
            offers.*, ordered.number as in_order, limits.keys, limits.numbers as most, limits.strengths, limits.kinds
        from offers
        join ordered on ordered.place = offers.place
        left join limits on limits.place = offers.place
        where offers.kind = 'pin' or offers.place not in (select variants.place from variants)
        order by offers.strength, case offers.kind when 'pin' then offers.sub end, ordered.number
    loop
        exit when cardinality(places) = wanted;
        continue when offer.place = any (places);
        continue when offer.kind = 'at_least'
            and cardinality(array_positions(counted, offer.strength::text)) >= offer.number;
        continue when exists (
            select
            from unnest(offer.keys, offer.most, offer.strengths, offer.kinds) as limited (key, most, strength, kind)
            where limited.kind = 'at_most'
                and limited.strength < offer.strength
                and cardinality(array_positions(counted, limited.key)) >= limited.most
        );
        pinned_at := null;
        if offer.kind = 'pin' then
            pinned_at := offer.position;
            while pinned_at = any (positions) loop
                pinned_at := pinned_at + 1;
            end loop;
            continue when pinned_at > wanted;
        end if;
        places := places || offer.place::integer;
        positions := positions || pinned_at;
        orders := orders || offer.in_order::integer;
        counted := counted || offer.keys;
        placed_by := placed_by || case
            when offer.kind = 'pin'
                or (offer.kind = 'at_least' and offer.in_order > wanted)
                or (offer.kind = 'rank' and offer.in_order < offer.place)
                then offer.rule
        end;
    end loop;
    return array(
        with taken as (
            select
                entry.*,
                case when entry.position is null
                    then row_number() over (partition by entry.position is null order by entry.in_order)
                end as number
            from unnest(places, positions, orders, placed_by) as entry (place, position, in_order, rule)
        ),
        free as (
            select slot.slot, row_number() over (order by slot.slot) as number
            from generate_series(1, wanted) as slot (slot)
            where slot.slot <> all (array_remove(positions, null))
        )
        select row(
            row_number() over (order by coalesce(taken.position, free.slot)),
            item.item_id,
            item.title,
            item.score,
            coalesce(rules.reason, item.reason),
            case when taken.rule is null then item.source else 'rule' end,
            (list[1]).propensity,
            item.model_version,
            item.placement,
            taken.rule
        )::serving.recommendation
        from taken
        join unnest(known) with ordinality as item (
            rank, item_id, title, score, reason, source, propensity, model_version, placement, rule, place
        ) on item.place = taken.place
        left join free on free.number = taken.number
        left join public.placement_rules as rules on rules.rule = taken.rule
        order by coalesce(taken.position, free.slot)
    );
end $$;

comment on function serving.shaped(
    serving.recommendation[], text[], text[], text[], jsonpath, jsonb, integer
) is
    'the first items of a list, and of what rules name, in the order that rules, the strongest first, and a placement''s '
    'diversity give them';
