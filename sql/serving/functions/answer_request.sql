-- What the champion found for a request in words, as a list: the champion knows texts and tastes, and this what may be
-- shown now.
create or replace function serving.answer_request(
    user_id text,
    item_ids text[],
    scores real[],
    placement text default 'home',
    k integer default null,
    filter jsonb default '{}',
    exclude text[] default '{}',
    session text default null
) returns setof serving.recommendation
language plpgsql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    person constant text := case when user_id is null then user_of(session) else user_id end;
    place record;
    wanted integer;
begin
    select placements.length, placements.filter, users.attributes into place
    from placements
    left join users on users.user_id = person
    where placements.placement = answer_request.placement;
    if not found then
        perform serving.refuse_placement(placement);
    end if;
    wanted := serving.checked_length(coalesce(k, place.length));
    return query
    select
        item.rank, item.item_id, item.title, item.score, ''::text, 'request', item.propensity, item.model_version,
        item.placement, item.rule
    from serving.fill_up(
        sources => '{personal}',
        wanted => wanted,
        path => serving.filter_path(filter, place.filter),
        gone => coalesce(array_remove(exclude, null), '{}')
        || (select before.gone from serving.reactions_since(person, 0, '-infinity', 10000) as before),
        own_ids => item_ids,
        own_scores => scores,
        attributes => place.attributes,
        placement => placement
    ) as item;
end $$;

comment on function serving.answer_request(text, text[], real[], text, integer, jsonb, text[], text) is
    'the first of these items, best first, that may be shown to a user now: available, not had, matching the filter; '
    'the HTTP service calls it with what the champion found for a request in words';
