-- What people praise and criticise about an item in their comments, as a text. What a language model wrote is shown while
-- title and phrases are those that it wrote about; otherwise a template says it. No row: there are no phrases of enough
-- people.
create or replace function serving.item_summary(
    item_id text,
    language text default null
) returns setof serving.summarised
language sql stable security definer rows 1
set search_path = pg_catalog, public, pg_temp
as $$
with item as (
    select
        items.item_id,
        language_of(item_summary.language) as language,
        md5(jsonb_build_array(items.title, item_phrases.phrases)::text) as digest,
        item_phrases.phrases
    from items
    join item_phrases using (item_id)
    where items.item_id = item_summary.item_id and item_phrases.people >= 5
),
sides as (
    select
        side.name,
        string_agg(found.phrase, texts ->> 'separator' order by found.place) as phrases,
        texts ->> side.name as template,
        texts ->> 'separator' as separator
    from item
    cross join lateral (select serving.words(item.language) as texts) as words
    cross join (values ('praised', true), ('criticised', false)) as side (name, praised)
    cross join lateral (
        select one.value ->> 'phrase' as phrase, one.place
        from jsonb_array_elements(item.phrases) with ordinality as one (value, place)
        where (one.value ->> 'praised')::boolean = side.praised and (one.value ->> 'people')::integer >= 5
    ) as found
    group by side.name, texts
),
said as (
    select string_agg(
        replace(template, '{phrases}', phrases),
        case when separator ~ '\s' then ' ' else '' end
        order by name desc
    ) as template
    from sides
)
select
    coalesce(written.summary, said.template),
    item.language,
    written.model,
    written.licence
from item
cross join said
left join item_summaries as written
    on written.item_id = item.item_id
    and written.summary is not null
    and written.language = item.language
    and written.source_digest = item.digest
where said.template is not null
$$;

comment on function serving.item_summary(text, text) is
    'what people praise and criticise about an item: by a language model, which is named with its licence, or else from a '
    'template';
