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
join public.items using (item_id);

comment on view analytics.predicted_comment_sentiment is
    'What the published model reads in the latest comments on an item, one a person, from their words alone. '
    'Items that fewer than five people have commented on are left out. Renewed when lists of all users are '
    'published; what people say with a rating beside it is in comment_sentiment_by_item.';
comment on column analytics.predicted_comment_sentiment.item_id is 'id of the application';
comment on column analytics.predicted_comment_sentiment.title is 'as in the catalogue';
comment on column analytics.predicted_comment_sentiment.comments is 'that were read, each of another person';
comment on column analytics.predicted_comment_sentiment.average_value is
    'predicted value within the range of its type: 0 the lowest rating, 1 the highest';
comment on column analytics.predicted_comment_sentiment.average_sentiment is '-1 all negative to 1 all positive';
comment on column analytics.predicted_comment_sentiment.model_version is 'that has read them';
comment on column analytics.predicted_comment_sentiment.published_at is 'when';
