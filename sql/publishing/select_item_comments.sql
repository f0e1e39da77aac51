-- Latest validated comments on items that enough people have commented on, one comment per person, of people whose
-- feedback may be used for training. Items with the most comments come first.
-- Parameters :through_transaction_id (exclusive), :least_people, :per_item, :most.
with latest as (
    select distinct on (feedback.item_id, feedback.user_id)
        feedback.item_id,
        feedback.comment,
        feedback.occurred_at
    from feedback
    join user_eligibility on user_eligibility.user_id = feedback.user_id
    join items on items.item_id = feedback.item_id
    where user_eligibility.may_train
        and feedback.comment is not null
        and btrim(feedback.comment) <> ''
        and feedback.transaction_id < :through_transaction_id
        and isfinite(feedback.occurred_at)
    order by feedback.item_id, feedback.user_id, feedback.occurred_at desc, feedback.feedback_id desc
),
ranked as (
    select
        item_id,
        comment,
        row_number() over (partition by item_id order by occurred_at desc) as place,
        count(*) over (partition by item_id) as people
    from latest
)
select item_id, comment
from ranked
where people >= :least_people and place <= :per_item
order by people desc, item_id, place
limit :most
