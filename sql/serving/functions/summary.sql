-- Why this selection, for the first five items that recommend shows at this moment. What a language model wrote is shown
-- while they are those that it wrote about, with the same titles and reasons; otherwise a template says it.
create or replace function serving.summary(
    user_id text,
    placement text default 'home',
    context jsonb default '{}',
    session text default null
) returns setof serving.summarised
language sql stable security definer rows 1
set search_path = pg_catalog, public, pg_temp
as $$
with shown as materialized (
    select rank, item_id, title, reason
    from serving.recommend(summary.user_id, summary.placement, context => summary.context, session => summary.session)
    where rank <= 5
),
content as (
    select md5(jsonb_build_array(
        jsonb_agg(item_id order by rank), jsonb_agg(title order by rank), jsonb_agg(reason order by rank)
    )::text) as digest
    from shown
),
person as (
    select
        who.user_id,
        language_of(coalesce(
            summary.context ->> 'language',
            (select users.attributes ->> 'language' from users where users.user_id = who.user_id)
        )) as language
    from (
        select case when summary.user_id is null then user_of(summary.session) else summary.user_id end as user_id
    ) as who
),
reasons as (
    select
        min(rank) as first,
        reason,
        (array_agg(title order by rank))[:3] as titles
    from shown
    where reason <> ''
    group by reason
    order by min(rank)
    limit 2
),
-- A title is put in last: what it has in braces is not read again.
said as (
    select string_agg(
        parts[1] || case when parts[2] = 'reason' then reason else listed end
        || parts[3] || case when parts[4] = 'reason' then reason else listed end || parts[5],
        case when texts ->> 'separator' ~ '\s' then ' ' else '' end
        order by first
    ) as template
    from person
    cross join lateral (select serving.words(person.language) as texts) as words
    cross join lateral regexp_match(texts ->> 'summary', '^(.*)\{(reason|titles)\}(.*)\{(reason|titles)\}(.*)$') as parts
    cross join reasons
    cross join lateral (select array_to_string(titles, texts ->> 'separator') as listed) as joined
)
select
    coalesce(written.summary, said.template),
    person.language,
    written.model,
    written.licence
from person
cross join content
cross join said
left join list_summaries as written
    on written.user_id = person.user_id
    and written.summary is not null
    and written.language = person.language
    and written.source_digest = content.digest
where coalesce(written.summary, said.template) is not null
$$;

comment on function serving.summary(text, text, jsonb, text) is
    'why a user is shown this list: by a language model, which is named with its licence, or else from a template';
