-- A call runs as few statements as possible, because each costs more than the work that it does. Most calls are answered
-- by the first: the list is shown as it was published, without a look at the catalogue. The others choose from pools and
-- shared lists.
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
    lately record;
    reacted boolean := false;
    trends boolean := false;  -- what is trending comes in without a reaction
    path jsonpath;
    wanted integer;
    gone text[] := coalesce(array_remove(exclude, null), '{}');
    as_drawn boolean;  -- what is shown is the list as it was drawn
    pool record;  -- PL/pgSQL would unpack long arrays in variables of their own
    moved record;
    had text[];
    words jsonb;
    most integer;
    list serving.recommendation[];
begin
    if exclude = '{}' and filter = '{}' then
        -- Whatever can change a list must be a condition here. Of older lists fresh_feedback may have forgotten something:
        -- it holds what happened in 15 days, because clocks differ, and phones send late what was done without a network.
        return query
        select
            item.number,
            lists.item_ids[item.number],
            lists.titles[item.number],
            lists.scores[item.number],
            coalesce(lists.reasons ->> (item.number - 1), ''),
            'personal',
            lists.propensities[item.number],
            lists.model_version,
            place.placement,
            null::text
        from placements as place
        join recommendation_lists as lists on lists.user_id = person
        cross join lateral generate_series(1, coalesce(k, place.length)) as item (number)
        where place.placement = recommend.placement
            and place.logic = 'personal'
            and place.filter = '{}'
            and place.diversity = '{}'
            and (context ->> 'language' is null or lists.language = language_of(context ->> 'language'))
            and not exists (
                select from placement_rules as rules
                where serving.is_valid(rules.valid_from, rules.valid_until)
                    and (rules.placements is null or recommend.placement = any (rules.placements))
            )
            and (place.explores or 1 = all (lists.propensities))
            and (not place.live or not exists (select from serving.trending_before_reaction()))
            and coalesce(k, place.length) between 1 and cardinality(lists.titles)
            and coalesce(lists.available_until > statement_timestamp(), true)
            and lists.through_transaction_id is not null
            and lists.published_at > statement_timestamp() - interval '8 days'
            and not exists (
                select from fresh_feedback as fresh
                where fresh.user_id = person and fresh.transaction_id >= lists.through_transaction_id
            )
            -- A candidate that was not drawn could have been, and would be missing now. Lists are drawn from the first
            -- POOL_FACTOR (4) times as many items (recsys.publishing.diversity).
            and not exists (
                select from item_changes as changes
                where changes.item_id = any (
                    case when 1 = all (lists.propensities) then lists.item_ids
                    else lists.pool_item_ids[:4 * cardinality(lists.item_ids)] end
                )
                    and changes.transaction_id >= lists.through_transaction_id
            );
        if found then
            return;
        end if;
    end if;

    select
        place.*,
        lists.item_ids,
        lists.scores,
        lists.propensities,
        lists.reasons,
        lists.language,
        lists.pool_item_ids,
        lists.pool_scores,
        lists.model_version,
        lists.published_at,
        coalesce(lists.through_transaction_id, publications.through_transaction_id, 0) as through,
        lists.through_transaction_id is not null
            and lists.published_at > statement_timestamp() - interval '8 days' as is_recent,
        not place.explores or coalesce(1 = all (lists.propensities), true) as is_fixed,
        -- 12+13: two versions have picked in turn, and a coin decided in which order. That of their pool is by chance too.
        coalesce(position('+' in lists.model_version) > 0, false) as is_interleaved,
        lists.titles <> '{}' and coalesce(lists.available_until > statement_timestamp(), true) as is_current,
        exists (
            select from fresh_feedback as fresh
            where fresh.user_id = person and fresh.transaction_id >= lists.through_transaction_id
        ) as has_reacted,
        users.consent,
        users.attributes
    into own
    from placements as place
    left join recommendation_lists as lists on lists.user_id = person
    left join users on users.user_id = person
    left join publications on publications.publication_id = lists.publication_id
    where place.placement = recommend.placement;
    if not found then
        perform serving.refuse_placement(placement);
    end if;
    wanted := serving.checked_length(coalesce(k, own.length));
    words := serving.words(coalesce(context ->> 'language', own.attributes ->> 'language'));
    if context ->> 'language' is null or own.language = language_of(context ->> 'language') then
        words := words - 'personal';  -- what the list says of its items is more
    else
        own.reasons := null;
    end if;
    if filter <> '{}' or own.filter <> '{}' then
        path := serving.filter_path(filter, own.filter);
    end if;
    if own.is_recent and not own.has_reacted then
        select 0::bigint as events, '{}'::text[] as gone, '{}'::text[] as items, '{}'::real[] as weights into lately;
    elsif own.is_recent then
        select judged.* into lately from serving.fresh_events(person, own.through, 50) as judged;
    else
        lately := serving.reactions_since(
            person, own.through, coalesce(own.published_at, statement_timestamp()) - interval '7 days', 50
        );
    end if;
    as_drawn := not own.is_fixed and own.is_current and path is null and gone = '{}' and lately.events = 0;
    if as_drawn then
        -- See above.
        perform from item_changes as changes
        where changes.item_id = any (own.pool_item_ids[:4 * cardinality(own.item_ids)])
            and changes.transaction_id >= own.through
        limit 1;
        as_drawn := not found;
    end if;

    if lately.events > 0 then
        gone := gone || lately.gone;
        reacted := own.live and own.consent is not false and lately.items <> '{}';
    end if;
    if not reacted and own.live and own.consent is not false and own.is_fixed and not own.is_interleaved then
        trends := exists (select from serving.trending_before_reaction());
    end if;
    if own.is_fixed then
        select own.pool_item_ids[:own.pool] as ids, own.pool_scores[:own.pool] as scores, null::text[] as sources into pool;
    else
        select
            own.item_ids || array_agg(rest.item_id order by rest.place) as ids,
            own.scores || array_agg(rest.score order by rest.place) as scores,
            null::text[] as sources
        into pool
        from unnest(own.pool_item_ids[:own.pool], own.pool_scores[:own.pool]) with ordinality as rest (item_id, score, place)
        where rest.item_id <> all (own.item_ids);
    end if;
    if (reacted or trends) and cardinality(pool.ids) > 0 then
        had := array(select feedback.item_id from feedback where feedback.user_id = person);
        -- The first ones nearly always fill the list. Then no others are sorted, and no other source is asked.
        if path is null and own.logic = 'personal' and own.diversity = '{}' and not exists (
            select from placement_rules as rules
            where serving.is_valid(rules.valid_from, rules.valid_until)
                and (rules.placements is null or recommend.placement = any (rules.placements))
        ) then
            most := wanted + wanted / 2 + 10;
        end if;
        loop
            select array_agg(live.item_id) as ids, array_agg(live.score) as scores, array_agg(
                case
                    when live.number >= live.place then 'personal'
                    when live.interest > 0 then 'live'
                    when live.is_trending then 'trending'
                    else 'personal'
                end
            ) as sources
            into moved
            from (
                select ranked.*, row_number() over () as number
                from (
                    select * from serving.live_ranking(pool.ids, pool.scores, lately.items, lately.weights, had)
                    limit most
                ) as ranked
            ) as live;
            exit when most is null or moved.ids is null;
            list := array(
                select row(
                    row_number() over (), item.item_id, item.title, item.score,
                    coalesce(
                        own.reasons ->> (array_position(own.item_ids, item.item_id) - 1),
                        words ->> moved.sources[item.place],
                        ''
                    ),
                    moved.sources[item.place], case when own.is_fixed and not own.is_interleaved then 1 end, own.model_version, own.placement, null
                )::serving.recommendation
                from serving.chosen(moved.ids, moved.scores, gone, '{}', null) as item
                limit wanted
            );
            if cardinality(list) = wanted then
                return query select * from unnest(list);
                return;
            end if;
            most := null;
        end loop;
        if moved.ids is not null then
            pool := moved;
        end if;
    elsif reacted and cardinality(lately.items) >= 3 then
        select near.ids, near.scores, array_fill('live'::text, array[coalesce(cardinality(near.ids), 0)]) as sources
        into pool
        from serving.nearest(lately.items, lately.weights, own.pool) as near;
    end if;
    return query
    select * from serving.fill_up(
        sources => own.logic || own.fallback || '{new}'::text[],
        wanted => wanted,
        path => path,
        gone => gone,
        most => own.pool,
        item_id => context ->> 'item_id',
        attributes => coalesce(own.attributes, '{}') || coalesce(context, '{}'),
        person => person,
        own_ids => pool.ids,
        own_scores => pool.scores,
        own_sources => pool.sources,
        list_ids => own.item_ids,
        reasons => own.reasons,
        propensities => case when as_drawn then own.propensities end,
        is_fixed => own.is_fixed and not own.is_interleaved,
        model_version => own.model_version,
        placement => own.placement,
        diversity => own.diversity,
        words => words
    );
end $$;

comment on function serving.recommend(text, text, integer, jsonb, text[], jsonb, text) is
    'what to show a user, or a visitor, in a placement; never empty while an item qualifies';
