-- Insert or update the text about the comments on an item, or why it was refused. An item whose phrases are gone meanwhile
-- gets none.
-- Parameters :item_id, :language, :source_digest, :summary, :refusal, :model, :licence, :prompt_version.
insert into item_summaries (item_id, language, source_digest, summary, refusal, model, licence, prompt_version)
select item_id, :language, :source_digest, :summary, :refusal, :model, :licence, :prompt_version
from item_phrases
where item_id = :item_id
on conflict (item_id, language) do update set
    source_digest = excluded.source_digest,
    summary = excluded.summary,
    refusal = excluded.refusal,
    model = excluded.model,
    licence = excluded.licence,
    prompt_version = excluded.prompt_version,
    written_at = clock_timestamp()
