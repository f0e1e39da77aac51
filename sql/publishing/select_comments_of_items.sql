-- The comments with some ids on some items, newest first, and the opinion that was stated with each: 0 is the lowest
-- value of its type or a dislike, 1 the highest or a like. Long comments are cut.
-- Parameters :items, :comment_ids, :characters.
select
    feedback.item_id,
    feedback.user_id,
    left(feedback.comment, :characters) as comment,
    case
        when event_types.explicit and event_types.polarity <> 0 then (event_types.polarity > 0)::integer::double precision
        when event_types.explicit and event_types.max_value > event_types.min_value
            then (feedback.value - event_types.min_value) / (event_types.max_value - event_types.min_value)
    end as stated
from feedback
join event_types on event_types.event_type = feedback.event_type
where feedback.item_id = any(:items) and feedback.feedback_id = any(:comment_ids)
order by feedback.item_id, feedback.occurred_at desc, feedback.feedback_id desc
