-- A call runs as few statements as possible, because each costs more than the work that it does.
create or replace function serving.recommend(
    user_id text,
    placement text default 'home',
    k integer default null,
    filter jsonb default '{}',
    exclude text[] default '{}',
    context jsonb default '{}',
    session text default null
) returns setof serving.recommendation
language plpgsql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    person constant text := case when user_id is null then user_of(session) else user_id end;
    own record;
    since timestamptz;
    has_reacted boolean;
    lately record;
    reacted text[] := '{}';
    before record;
    path jsonpath;
    wanted integer;
    shown integer := 0;
    gone text[] := coalesce(array_remove(exclude, null), '{}');
    things text[] := '{}';
    source text;
    ids text[];
    scores real[];
    raised boolean[];
    origin text;
    reason text;
    fixed boolean;  -- nothing was drawn by chance
    as_drawn boolean;  -- what is shown is the list as it was drawn
    more record;
begin
    select
        place.*,
        users.consent,
        users.attributes,
        lists.item_ids,
        lists.scores,
        lists.propensities,
        lists.reasons,
        lists.pool_item_ids,
        lists.pool_scores,
        lists.model_version,
        lists.published_at,
        coalesce(publications.through_transaction_id, 0) as through
    into own
    from placements as place
    left join users on users.user_id = person
    left join recommendation_lists as lists on lists.user_id = users.user_id
    left join publications on publications.publication_id = lists.publication_id
    where place.placement = recommend.placement;
    if not found then
        raise exception 'there is no placement %', coalesce(quote_literal(placement), 'NULL')
            using errcode = 'invalid_parameter_value',
                hint = 'Add it to the table placements, or ask for one of: '
                || (select string_agg(placements.placement, ', ' order by placements.placement) from placements);
    end if;
    wanted := coalesce(k, own.length);
    if wanted not between 1 and 1000 then
        raise exception 'k is %', wanted
            using errcode = 'invalid_parameter_value', hint = 'Ask for 1 to 1000 items.';
    end if;
    if filter <> '{}' or own.filter <> '{}' then
        path := serving.filter_path(filter, own.filter);
    end if;

    -- Clocks of applications differ, and phones send late what was done without a network.
    since := coalesce(own.published_at, statement_timestamp()) - interval '7 days';
    perform from feedback
    where feedback.user_id = person and feedback.occurred_at > since and feedback.transaction_id >= own.through
    limit 1;
    has_reacted := found;
    fixed := own.propensities is null or not own.explores or 1 = all (own.propensities);
    as_drawn := not fixed and path is null and gone = '{}' and not has_reacted;
    if as_drawn then
        -- A candidate that was not drawn could have been, and would be missing now. Lists are drawn from the first
        -- POOL_FACTOR (4) times as many items (recsys.publishing.diversity).
        select count(distinct coalesce(items.variant_of, items.item_id)) = cardinality(candidates.ids) into as_drawn
        from (select own.pool_item_ids[:4 * cardinality(own.item_ids)] as ids) as candidates
        join items on items.item_id = any (candidates.ids)
        where serving.is_available(items.available, items.available_from, items.available_until)
        group by candidates.ids;
    end if;
    if has_reacted then
        lately := serving.reactions(person, own.through, since, 50);
        gone := gone || lately.gone;
        if own.live and own.consent is not false then
            reacted := lately.items;
        end if;
    end if;

    foreach source in array own.logic || own.fallback || '{new}'::text[] loop
        ids := null;
        raised := null;
        if source not in ('personal', 'buy_again') and before is null and person is not null then
            -- A user's own pool has nothing that they have had; other lists may.
            before := serving.reactions(person, 0, '-infinity', 10000);
            gone := gone || before.gone;
        end if;
        reason := serving.shared_reason(source);
        if source = 'personal' then
            ids := own.pool_item_ids[:own.pool];
            scores := own.pool_scores[:own.pool];
            if not fixed then
                select own.item_ids || array_agg(rest.item_id order by rest.place),
                    own.scores || array_agg(rest.score order by rest.place)
                into ids, scores
                from unnest(ids, scores) with ordinality as rest (item_id, score, place)
                where rest.item_id <> all (own.item_ids);
            end if;
            if cardinality(reacted) > 0 and cardinality(ids) > 0 then
                select moved.ids, moved.ordered_scores, moved.raised into more
                from serving.live_order(ids, scores, reacted, lately.weights) as moved;
                if more.ids is not null then
                    ids := more.ids;
                    scores := more.ordered_scores;
                    raised := more.raised;
                end if;
            elsif cardinality(reacted) >= 3 then
                select near.ids, near.scores into ids, scores
                from serving.nearest(reacted, lately.weights, own.pool) as near;
                raised := array_fill(true, array[coalesce(cardinality(ids), 0)]);
            end if;
        elsif source = 'new' then
            select array_agg(newest.item_id), array_agg(0) into ids, scores
            from serving.newest(gone, path, wanted - shown + cardinality(things)) as newest;
        elsif source in ('similar', 'because_you_watched') then
            if source = 'similar' then
                origin := context ->> 'item_id';
            else
                select items.item_id into origin
                from unnest(before.items, before.weights) with ordinality as had (item_id, weight, number)
                join items on items.item_id = had.item_id
                where had.weight > 0
                order by had.number
                limit 1;
            end if;
            select near.ids, near.scores into ids, scores
            from serving.neighbours(origin, 'similar', own.pool) as near;
            gone := gone || coalesce(origin, '');
            select format('Similar to "%s"', coalesce(nullif(items.title, ''), items.item_id)) into reason
            from items where items.item_id = origin;
        elsif source = 'buy_again' then
            select array_agg(again.item_id), array_agg(again.times) into ids, scores
            from serving.had_before(person, own.pool) as again;
        else
            select lists.item_ids, lists.scores into ids, scores
            from serving.shared_list(source, coalesce(own.attributes, '{}') || coalesce(context, '{}')) as lists;
        end if;
        continue when coalesce(cardinality(ids), 0) = 0;

        more := serving.choose(ids, scores, gone, things, path, wanted - shown);
        continue when more.chosen is null;
        return query
        select
            shown + item.number::integer,
            item.item_id,
            item.title,
            item.score,
            coalesce(
                case when source = 'personal' then
                    own.reasons ->> (array_position(own.item_ids, item.item_id) - 1)
                end,
                case when own_place.raised then 'Similar to what you just chose' else reason end
            ),
            case when own_place.raised then 'live' else source end,
            case
                when fixed then 1
                when as_drawn and item.item_id = own.item_ids[shown + item.number]
                    then own.propensities[shown + item.number]
            end::real,
            case when source = 'personal' then own.model_version end,
            own.placement
        from unnest(more.chosen, more.titles, more.chosen_scores) with ordinality
            as item (item_id, title, score, number)
        cross join lateral (
            select case when raised is not null then raised[array_position(ids, item.item_id)] end as raised
        ) as own_place
        order by item.number;
        shown := shown + cardinality(more.chosen);
        exit when shown >= wanted;
        gone := gone || more.chosen;
        things := things || more.chosen_things;
    end loop;
end $$;

comment on function serving.recommend(text, text, integer, jsonb, text[], jsonb, text) is
    'what to show a user, or a visitor, in a placement; never empty while an item qualifies';
