-- Items that enough people have commented on, those first that were never read or not for long.
-- `comment_ids` are the comments to read: the latest validated one of each person whose feedback may be used for
-- training, the newest :per_item of them. `is_read` says whether these were read already, and `is_withdrawn` whether
-- a comment was read that may no longer be: its author withdrew consent, was erased or has written another one, or it
-- went to quarantine or past its retention.
-- Parameters :through_transaction_id (exclusive), :least_people, :per_item.
with latest as (
    select distinct on (feedback.item_id, feedback.user_id)
        feedback.item_id,
        feedback.feedback_id,
        feedback.occurred_at
    from feedback
    join user_eligibility on user_eligibility.user_id = feedback.user_id
    where user_eligibility.may_train
        and feedback.comment is not null
        and btrim(feedback.comment) <> ''
        and feedback.transaction_id < :through_transaction_id
        and isfinite(feedback.occurred_at)
    order by feedback.item_id, feedback.user_id, feedback.occurred_at desc, feedback.feedback_id desc
),
commented as (
    select item_id, array_agg(feedback_id order by occurred_at desc, feedback_id desc) as all_ids
    from latest
    group by item_id
    having count(*) >= :least_people
)
select
    items.item_id,
    items.title,
    all_ids[1 : :per_item] as comment_ids,
    coalesce(known.comment_ids = all_ids[1 : :per_item], false) as is_read,
    not coalesce(known.comment_ids <@ all_ids, true) as is_withdrawn
from commented
join items on items.item_id = commented.item_id
left join item_phrases as known on known.item_id = commented.item_id
order by known.computed_at nulls first, items.item_id
