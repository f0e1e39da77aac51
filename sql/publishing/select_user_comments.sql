-- Comments that the model reads, of the users numbered :lower to :upper (exclusive): validated, of users with consent,
-- and without a value or a polarity, which would say more. The index feedback_comments finds them.
-- Parameter :through_transaction_id (exclusive).
select feedback.feedback_id, feedback.comment
from staged_users
join feedback on feedback.user_id = staged_users.user_id
join event_types on event_types.event_type = feedback.event_type
where staged_users.position >= :lower and staged_users.position < :upper
    and staged_users.consent
    and feedback.comment is not null
    and event_types.polarity = 0
    and (feedback.value is null or event_types.min_value is null)
    and feedback.transaction_id < :through_transaction_id
    and isfinite(feedback.occurred_at)
