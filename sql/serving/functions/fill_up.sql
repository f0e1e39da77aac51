-- Fill a list from one source after the other. A user's own candidates come from the caller; they have no item that the
-- user had before their lists were published, and other sources may.
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
    raised boolean[] default null,
    list_ids text[] default null,
    reasons jsonb default null,
    propensities real[] default null,
    is_fixed boolean default true,
    model_version text default null,
    placement text default null
) returns setof serving.recommendation
language plpgsql stable rows 10 as $$
#variable_conflict use_column
declare
    source text;
    before record;
    origin text;
    reason text;
    ids text[];
    scores real[];
    hidden text[];
    shown integer := 0;
    found_now integer;
    first integer;
    step integer;
begin
    foreach source in array sources loop
        if source not in ('personal', 'buy_again') and before is null and person is not null then
            before := serving.reactions(person, 0, '-infinity', 10000);
            gone := gone || before.gone;
        end if;
        ids := null;
        reason := serving.shared_reason(source);
        if source = 'personal' then
            ids := own_ids;
            scores := own_scores;
        elsif source in ('similar', 'together', 'next', 'because_you_watched') then
            origin := item_id;
            if source = 'because_you_watched' then
                select items.item_id into origin
                from unnest(before.items, before.weights) with ordinality as had (item_id, weight, number)
                join public.items on items.item_id = had.item_id
                where had.weight > 0
                order by had.number
                limit 1;
            end if;
            select near.ids, near.scores into ids, scores
            from serving.neighbours(
                origin, case source when 'because_you_watched' then 'similar' else source end, most
            ) as near;
            gone := gone || coalesce(origin, '');
            if source in ('similar', 'because_you_watched') then
                select format('Similar to "%s"', coalesce(nullif(items.title, ''), items.item_id)) into reason
                from public.items where items.item_id = origin;
            end if;
        elsif source = 'buy_again' then
            select array_agg(again.item_id), array_agg(again.times) into ids, scores
            from serving.had_before(person, most) as again;
        elsif source = 'new' then
            select array_agg(newest.item_id), array_agg(0) into ids, scores
            from serving.newest(gone, path, wanted - shown + cardinality(things)) as newest;
        else
            select lists.item_ids, lists.scores into ids, scores
            from serving.shared_list(source, attributes, segment) as lists;
        end if;

        -- With many items, they are hashed once and not compared one by one.
        if cardinality(gone) > 100 then
            hidden := array(select unnest(ids) intersect select unnest(gone));
        else
            hidden := gone;
        end if;
        -- A few are looked up at a time, so that the cost is that of what is shown and not of all candidates.
        first := 1;
        step := (wanted - shown) + (wanted - shown) / 8 + 1;
        if path is not null then
            step := 3 * step;
        end if;
        while first <= cardinality(ids) loop
            return query
            select
                shown + (row_number() over ())::integer,
                item.item_id,
                item.title,
                item.score,
                coalesce(
                    case when source = 'personal' then
                        reasons ->> (array_position(list_ids, item.item_id) - 1)
                    end,
                    case when source = 'personal' and raised[first - 1 + item.place]
                        then 'Similar to what you just chose'
                        else reason
                    end
                ),
                case when source = 'personal' and raised[first - 1 + item.place] then 'live' else source end,
                case
                    when is_fixed then 1
                    when item.item_id = list_ids[shown + row_number() over ()]
                        then propensities[shown + row_number() over ()]
                end::real,
                case when source = 'personal' then model_version end,
                placement
            from serving.chosen(
                ids[first:first + step - 1], scores[first:first + step - 1], hidden, things, path
            ) as item
            limit wanted - shown;
            get diagnostics found_now = row_count;
            shown := shown + found_now;
            if shown >= wanted then
                return;
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
end $$;

comment on function serving.fill_up(
    text[], integer, jsonpath, text[], text[], integer, text, text, jsonb, text, text[], real[], boolean[], text[], jsonb,
    real[], boolean, text, text
) is
    'the first items of these sources, one source after the other, that are available, match the filter, and are neither '
    'among those that are gone nor variants of each other';
