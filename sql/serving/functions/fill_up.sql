-- Fill a list from one source after the other. A user's own candidates come from the caller, with the source that each row
-- names if it is not personal; they have no item that the
-- user had before their lists were published, and other sources may. What rules exclude is not chosen. If they also shape
-- the list (diversity is not null), they choose from a longer one: from all that the first sources have, and from the next
-- ones if limits would leave a gap.
create or replace function serving.fill_up(
    sources text[],
    wanted integer,
    path jsonpath default null,
    gone text[] default '{}',
    things text[] default '{}',
    most integer default 200,
    item_id text default null,
    segment text default null,
    attributes jsonb default null,
    person text default null,
    own_ids text[] default null,
    own_scores real[] default null,
    own_sources text[] default null,
    list_ids text[] default null,
    reasons jsonb default null,
    propensities real[] default null,
    is_fixed boolean default true,
    model_version text default null,
    placement text default null,
    diversity jsonb default null,
    words jsonb default null
) returns setof serving.recommendation
language plpgsql stable rows 10 as $$
#variable_conflict use_column
declare
    source text;
    before record;
    origin text;
    reason text;
    texts constant jsonb := coalesce(words, serving.words(null));
    ids text[];
    scores real[];
    hidden text[];
    unseen boolean;  -- items whose vectors say how similar they are may be in no list
    shown integer := 0;
    entries serving.recommendation[];
    ruled record;
    kept text[];
    shapes boolean := false;
    depth integer := wanted;
    list serving.recommendation[] := '{}';
    shaped serving.recommendation[];
    first integer;
    step integer;
begin
    if diversity <> '{}' or exists (
        select from public.placement_rules as rules
        where serving.is_valid(rules.valid_from, rules.valid_until)
            and (rules.placements is null or fill_up.placement = any (rules.placements))
    ) then
        ruled := serving.ruling(placement, coalesce(attributes, '{}'));
        path := serving.both_paths(path, ruled.path);
        gone := gone || ruled.gone;
        kept := ruled.kept;
        if kept is not null then
            -- All that may be shown is known, unless the caller's candidates alone are wanted.
            sources := array_remove(sources, 'new')
                || case when cardinality(sources) > 1 then '{rule}' else '{}' end::text[];
        end if;
        shapes := diversity is not null and (ruled.shaping is not null or diversity <> '{}');
        if shapes then
            before := serving.reactions_since(person, 0, '-infinity', 10000);
            gone := gone || before.gone;
            -- Pins only push others down.
            if diversity <> '{}' or exists (
                select from public.placement_rules as rules
                where rules.rule = any (ruled.shaping) and rules.kind <> 'pin'
            ) then
                depth := greatest(most, wanted);
            end if;
        end if;
        -- A drawn list is as it was drawn if no candidate is excluded, drawn or not.
        if not is_fixed and (
            shapes or kept is not null or exists (
                select from public.items
                where items.item_id = any (own_ids[:4 * cardinality(list_ids)])
                    and (items.item_id = any (ruled.gone) or not coalesce(items.attributes @@ ruled.path, true))
            )
        ) then
            propensities := null;
        end if;
    end if;
    <<searching>>
    foreach source in array sources loop
        if source not in ('personal', 'buy_again') and before is null and person is not null then
            before := serving.reactions_since(person, 0, '-infinity', 10000);
            gone := gone || before.gone;
        end if;
        ids := null;
        unseen := false;
        reason := coalesce(texts ->> source, '');
        if source = 'personal' then
            ids := own_ids;
            scores := own_scores;
        elsif source in ('similar', 'together', 'next', 'because_you_watched') then
            origin := item_id;
            if source = 'because_you_watched' then
                origin := null;
            end if;
            if source = 'because_you_watched' and person is not null then
                select items.item_id into origin
                from unnest(before.items, before.weights) with ordinality as had (item_id, weight, number)
                join public.items on items.item_id = had.item_id
                where had.weight > 0
                order by had.number
                limit 1;
            end if;
            unseen := source in ('similar', 'because_you_watched') and origin is not null;
            select near.ids, near.scores into ids, scores
            from serving.neighbours(origin, case source when 'because_you_watched' then 'similar' else source end) as near;
            gone := gone || coalesce(origin, '');
            if source in ('similar', 'because_you_watched') then
                select replace(texts ->> 'similar_to', '{title}', coalesce(nullif(items.title, ''), items.item_id)) into reason
                from public.items where items.item_id = origin;
            end if;
        elsif source = 'buy_again' then
            select array_agg(again.item_id), array_agg(again.times) into ids, scores
            from serving.had_before(person, most) as again;
        elsif source = 'new' then
            select array_agg(newest.item_id), array_agg(0) into ids, scores
            from serving.newest(gone, path, depth - shown + cardinality(things)) as newest;
        elsif source = 'rule' then
            ids := array(
                select named.item_id
                from unnest(kept) with ordinality as named (item_id, number)
                where named.item_id not in (select unnest(gone))
                order by named.number
            );
            scores := array_fill(0::real, array[cardinality(ids)]);
        else
            select lists.item_ids, lists.scores into ids, scores
            from serving.shared_list(source, attributes, segment) as lists;
        end if;

        hidden := null;
        -- A few are looked up at a time, so that the cost is that of what is shown and not of all candidates.
        first := 1;
        step := (depth - shown) + (depth - shown) / 8 + 1;
        if path is not null then
            step := 3 * step;
        end if;
        loop
            if first > coalesce(cardinality(ids), 0) then
                -- The list was too short, or the item is too new to have one.
                exit when not unseen;
                select near.ids, near.scores into ids, scores from serving.nearest(array[origin], '{1}', most + 1) as near;
                unseen := false;
                hidden := null;
                first := 1;
                continue;
            end if;
            if hidden is null then
                -- With many items, they are hashed once and not compared one by one.
                if cardinality(gone) > 100 then
                    hidden := array(select unnest(ids) intersect select unnest(gone));
                else
                    hidden := gone;
                end if;
                if kept is not null then
                    hidden := hidden || array(select unnest(ids) except select unnest(kept));
                end if;
            end if;
            entries := array(
                select row(
                    shown + (row_number() over ())::integer,
                    item.item_id,
                    item.title,
                    item.score,
                    coalesce(
                        case when source = 'personal' then
                            reasons ->> (array_position(list_ids, item.item_id) - 1)
                        end,
                        case
                            when source = 'personal' then texts ->> coalesce(own_sources[first - 1 + item.place], source)
                            else reason
                        end,
                        ''
                    ),
                    case
                        when source = 'personal' then coalesce(own_sources[first - 1 + item.place], source)
                        else source
                    end,
                    case
                        when is_fixed then 1
                        when item.item_id = list_ids[shown + row_number() over ()]
                            then propensities[shown + row_number() over ()]
                    end::real,
                    case when source = 'personal' then model_version end,
                    placement,
                    null
                )::serving.recommendation
                from serving.chosen(
                    ids[first:first + step - 1], scores[first:first + step - 1], hidden, things, path
                ) as item
                limit case when not shapes then wanted - shown end
            );
            if shapes then
                list := list || entries;
            else
                return query select * from unnest(entries);
            end if;
            shown := shown + cardinality(entries);
            if shown >= depth then
                exit searching when not shapes;
                shaped := serving.shaped(list, ruled.shaping, kept, gone, path, diversity, wanted);
                exit searching when cardinality(shaped) >= wanted or depth >= 1000;
                depth := 1000;
            end if;
            things := things || array(
                select item.thing
                from serving.chosen(
                    ids[first:first + step - 1], scores[first:first + step - 1], hidden, things, path
                ) as item
            );
            first := first + step;
            step := 2 * step;
        end loop;
    end loop;
    if shapes then
        if shown < depth then
            shaped := serving.shaped(list, ruled.shaping, kept, gone, path, diversity, wanted);
        end if;
        return query select * from unnest(shaped);
    end if;
end $$;

comment on function serving.fill_up(
    text[], integer, jsonpath, text[], text[], integer, text, text, jsonb, text, text[], real[], text[], text[], jsonb,
    real[], boolean, text, text, jsonb, jsonb
) is
    'the first items of these sources, one source after the other, that are available, match the filter, and are neither '
    'among those that are gone nor variants of each other, as rules want them';
