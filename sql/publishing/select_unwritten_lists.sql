-- Lists that were published since a text about them was last looked at, those that wait longest first. Only of people
-- whose feedback may be used: what they did is told to the model.
-- Parameters :model, :prompt_version, :tried (user ids that this run has tried), :batch.
with waiting as (
    select lists.user_id
    from recommendation_lists as lists
    join user_eligibility on user_eligibility.user_id = lists.user_id and user_eligibility.may_train
    left join list_summaries as written on written.user_id = lists.user_id
    where lists.user_id <> all (cast(:tried as text[]))
        and (written.user_id is null or written.publication_id <> lists.publication_id or written.model <> :model
            or written.prompt_version <> :prompt_version)
    order by written.written_at nulls first, lists.user_id
    limit :batch
)
select
    lists.user_id,
    lists.publication_id,
    lists.language,
    shown.source_digest,
    shown.items
from waiting
join recommendation_lists as lists using (user_id)
cross join lateral (
    select
        md5(jsonb_build_array(
            jsonb_agg(listed.item_id order by listed.place),
            jsonb_agg(listed.title order by listed.place),
            jsonb_agg(listed.reason order by listed.place)
        )::text) as source_digest,
        -- An item without a title is shown by its id.
        jsonb_agg(
            jsonb_build_object('title', listed.title, 'reason', listed.reason, 'attributes', items.attributes::text)
            order by listed.place
        ) filter (where items.title <> '') as items
    from (
        select
            place,
            lists.item_ids[place] as item_id,
            lists.titles[place] as title,
            coalesce(lists.reasons ->> (place - 1), '') as reason
        from generate_series(1, least(5, cardinality(lists.titles))) as place
    ) as listed
    left join items on items.item_id = listed.item_id
) as shown
