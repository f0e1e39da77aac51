-- Move what this session has staged of items and users to the tables of its plan, where all shards find it. A user who
-- has been erased meanwhile keeps an empty place.
insert into staging.staged_catalogue (item_id, title, text_digest, available)
select item_id, title, text_digest, available from staged_catalogue;
insert into staging.staged_items (position, item_id)
select position, item_id from staged_items;
insert into staging.staged_item_vectors (position, vector)
select position, vector from staged_item_vectors;
insert into staging.staged_similar_items (item_id, item_ids, scores)
select item_id, item_ids, scores from staged_similar_items;
insert into staging.staged_comment_sentiment (item_id, comments, average_value, average_sentiment)
select item_id, comments, average_value, average_sentiment from staged_comment_sentiment;
insert into staging.staged_users (position, user_id, model_version)
select planned.position, users.user_id, planned.model_version
from staged_users as planned
left join users using (user_id);
