-- All feedback of the users numbered :lower to :upper (exclusive). All of it counts for what is off a user's list. The
-- model reads only rows where `readable` is true: validated feedback of users with consent.
-- Parameter :through_transaction_id (exclusive).
select
    staged_users.position - :lower as user_index,
    feedback.item_id,
    feedback.event_type,
    feedback.value,
    feedback.feedback_id,
    case
        when isfinite(feedback.occurred_at)
            then (extract(epoch from feedback.occurred_at) * 1000000)::bigint
        else 0
    end as occurred_at,
    staged_users.consent
        and feedback.transaction_id < :through_transaction_id
        and coalesce(isfinite(feedback.occurred_at), false) as readable
from staged_users
join feedback on feedback.user_id = staged_users.user_id
where staged_users.position >= :lower and staged_users.position < :upper
