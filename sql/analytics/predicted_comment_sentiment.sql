create or replace view analytics.predicted_comment_sentiment as
select
    items.item_id,
    items.title,
    comment_sentiment.comments,
    comment_sentiment.average_value::double precision as average_value,
    comment_sentiment.average_sentiment::double precision as average_sentiment,
    comment_sentiment.model_version,
    comment_sentiment.published_at
from public.comment_sentiment
join public.items using (item_id)
where comment_sentiment.comments >= 5;

comment on view analytics.predicted_comment_sentiment is
    'Sentiment that the published model predicts from the words of the latest comments on an item, one comment '
    'per person. Items with comments of fewer than five people are left out. Computed when lists of all users are '
    'published. The sentiment that people state with a rating is in comment_sentiment_by_item.';
comment on column analytics.predicted_comment_sentiment.item_id is 'the application''s id of the item';
comment on column analytics.predicted_comment_sentiment.title is 'as in the catalogue';
comment on column analytics.predicted_comment_sentiment.comments is
    'comments that the model read, each by a different person';
comment on column analytics.predicted_comment_sentiment.average_value is
    'mean predicted value within the range of its type: 0 is the lowest rating, 1 the highest';
comment on column analytics.predicted_comment_sentiment.average_sentiment is
    'mean predicted sentiment from -1 (all negative) to 1 (all positive)';
comment on column analytics.predicted_comment_sentiment.model_version is 'the version that read them';
comment on column analytics.predicted_comment_sentiment.published_at is 'when it was published';
