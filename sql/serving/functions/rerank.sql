-- Order items that an application has found. What is in the user's pool is ranked above all that is not, by the same
-- model: it comes first, in the order of the pool.
create or replace function serving.rerank(user_id text, item_ids text[], session text default null)
returns setof serving.recommendation
language plpgsql stable security definer rows 20
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    person constant text := case when user_id is null then user_of(session) else user_id end;
    own record;
    lately record;
    pool text[];
    direction vector;
    ruled record;
begin
    if item_ids is null or cardinality(item_ids) > 1000 then
        raise exception 'item_ids has % items', coalesce(cardinality(item_ids)::text, 'no')
            using errcode = 'invalid_parameter_value', hint = 'Give at most 1000 items.';
    end if;
    select
        users.consent,
        users.attributes,
        lists.pool_item_ids,
        lists.pool_scores,
        lists.model_version,
        lists.published_at,
        coalesce(lists.through_transaction_id, publications.through_transaction_id, 0) as through,
        lists.through_transaction_id is not null
            and lists.published_at > statement_timestamp() - interval '8 days' as is_recent,
        vectors.vector
    into own
    from users
    left join recommendation_lists as lists on lists.user_id = users.user_id
    left join publications on publications.publication_id = lists.publication_id
    left join user_vectors as vectors on vectors.user_id = users.user_id
    where users.user_id = person;
    direction := own.vector;
    pool := own.pool_item_ids;
    if own.consent is not false then
        if own.is_recent then
            select judged.* into lately from serving.fresh_events(person, own.through, 50) as judged;
        else
            lately := serving.reactions_since(
                person, coalesce(own.through, 0), coalesce(own.published_at, statement_timestamp()) - interval '7 days', 50
            );
        end if;
        if lately.items <> '{}' then
            select coalesce(array_agg(live.item_id), pool) into pool
            from serving.live_ranking(pool, own.pool_scores, lately.items, lately.weights) as live;
        end if;
        if direction is null then
            select interest.direction into direction from serving.interest(lately.items, lately.weights) as interest;
        end if;
    end if;
    ruled := serving.ruling(null, coalesce(own.attributes, '{}'));
    return query
    select
        (row_number() over (order by place.place, likeness.score desc nulls last, given.number))::integer,
        items.item_id,
        case items.title when '' then items.item_id else items.title end,
        coalesce(own.pool_scores[array_position(own.pool_item_ids, items.item_id)], likeness.score, 0)::real,
        ''::text,
        case when place.place is null and likeness.score is null then 'given' else 'personal' end,
        1::real,
        own.model_version,
        null::text,
        null::text
    from (
        select asked.item_id, min(asked.number) as number
        from unnest(item_ids) with ordinality as asked (item_id, number)
        group by asked.item_id
    ) as given
    join items on items.item_id = given.item_id
    left join item_vectors on item_vectors.item_id = items.item_id
    cross join lateral (
        select array_position(pool, items.item_id) as place
    ) as place
    cross join lateral (
        select case
            when vector_dims(item_vectors.vector) = vector_dims(direction)
                then nullif(-(item_vectors.vector <#> direction), 'NaN')
        end as score
    ) as likeness
    where serving.is_available(items.available, items.available_from, items.available_until)
        and (ruled.path is null or items.attributes @@ ruled.path)
        and items.item_id not in (select unnest(ruled.gone))
        and (ruled.kept is null or items.item_id in (select unnest(ruled.kept)))
    order by 1;
end $$;

comment on function serving.rerank(text, text[], text) is
    'these items in the order of a user''s taste, each once and without those that are not available; what nothing is '
    'known about keeps its order at the end; what rules exclude everywhere is left out';
