-- Insert or update the text about a user's list, or why it was refused. A list that is gone meanwhile gets none, and one of
-- a person who is being erased now keeps none.
-- Parameters :user_id, :publication_id, :source_digest, :content_digest, :language, :summary, :refusal, :model, :licence,
-- :prompt_version.
insert into list_summaries (
    user_id, publication_id, source_digest, content_digest, language, summary, refusal, model, licence, prompt_version
)
select
    lists.user_id, :publication_id, :source_digest, :content_digest, :language, :summary, :refusal, :model, :licence,
    :prompt_version
from recommendation_lists as lists
join user_eligibility on user_eligibility.user_id = lists.user_id and user_eligibility.may_train
where lists.user_id = :user_id
on conflict (user_id) do update set
    publication_id = excluded.publication_id,
    source_digest = excluded.source_digest,
    content_digest = excluded.content_digest,
    language = excluded.language,
    summary = excluded.summary,
    refusal = excluded.refusal,
    model = excluded.model,
    licence = excluded.licence,
    prompt_version = excluded.prompt_version,
    written_at = clock_timestamp()
