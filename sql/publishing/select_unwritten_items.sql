-- Items whose title or phrases have changed since a text about them was written, in each language that lists are in and in
-- the default one.
-- Parameters :model, :prompt_version, :tried (item ids with languages, such as i-42 de), :batch.
with spoken as (
    select language from languages
    where is_default or exists (select from recommendation_lists as lists where lists.language = languages.language)
)
select
    items.item_id,
    items.title,
    spoken.language,
    digests.source_digest,
    item_phrases.phrases
from item_phrases
join items using (item_id)
cross join spoken
cross join lateral (
    select md5(jsonb_build_array(items.title, item_phrases.phrases)::text) as source_digest
) as digests
left join item_summaries as written
    on written.item_id = items.item_id and written.language = spoken.language
where item_phrases.people >= 5
    and item_phrases.phrases <> '[]'
    and items.title <> ''
    and items.item_id || ' ' || spoken.language <> all (cast(:tried as text[]))
    and (written.item_id is null or written.source_digest <> digests.source_digest or written.model <> :model
        or written.prompt_version <> :prompt_version)
order by written.written_at nulls first, items.item_id, spoken.language
limit :batch
