-- Let the swap find what the shards of this session's plan have staged under the names of the temporary tables. It joins
-- whole tables, for which a nested loop would be wrong; without statistics the planner might choose one.
set enable_nestloop = off;
create temporary view staged_catalogue as
select item_id, title, text_digest, available
from staging.staged_catalogue where plan_id = staging.current_plan();
create temporary view staged_items as
select position, item_id
from staging.staged_items where plan_id = staging.current_plan();
create temporary view staged_item_vectors as
select position, vector
from staging.staged_item_vectors where plan_id = staging.current_plan();
create temporary view staged_similar_items as
select item_id, item_ids, scores
from staging.staged_similar_items where plan_id = staging.current_plan();
create temporary view staged_comment_sentiment as
select item_id, comments, average_value, average_sentiment
from staging.staged_comment_sentiment where plan_id = staging.current_plan();
create temporary view staged_users as
select position, user_id, model_version
from staging.staged_users where plan_id = staging.current_plan() and user_id is not null;
create temporary view staged_lists as
select position, item_ids, scores, propensities, reasons, titles, available_until, language
from staging.staged_lists where plan_id = staging.current_plan();
create temporary view staged_pools as
select position, item_ids, scores, of_challenger
from staging.staged_pools where plan_id = staging.current_plan();
create temporary view staged_user_vectors as
select position, vector
from staging.staged_user_vectors where plan_id = staging.current_plan();
