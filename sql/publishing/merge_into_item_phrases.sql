-- Insert or update what was found in the comments on an item.
-- Parameters :item_id, :comment_ids, :people, :phrases, :model_version.
insert into item_phrases (item_id, comment_ids, people, phrases, model_version)
values (:item_id, :comment_ids, :people, cast(:phrases as jsonb), :model_version)
on conflict (item_id) do update set
    comment_ids = excluded.comment_ids,
    people = excluded.people,
    phrases = excluded.phrases,
    model_version = excluded.model_version,
    computed_at = clock_timestamp()
