-- Insert or update the staged comment sentiments.
-- Parameter :model_version.
insert into comment_sentiment (item_id, model_version, comments, average_value, average_sentiment)
select items.item_id, :model_version, staged.comments, staged.average_value, staged.average_sentiment
from staged_comment_sentiment as staged
join items using (item_id)
order by items.item_id
on conflict (item_id) do update set
    model_version = excluded.model_version,
    comments = excluded.comments,
    average_value = excluded.average_value,
    average_sentiment = excluded.average_sentiment,
    published_at = now()
