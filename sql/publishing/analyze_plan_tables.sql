-- Let the planner know how many rows shards have staged; they are new. Only columns that joins read are sampled: to
-- sample the lists would take longer than to swap few of them.
analyze
    staging.staged_catalogue (item_id),
    staging.staged_items (position, item_id),
    staging.staged_item_vectors (position),
    staging.staged_similar_items (item_id),
    staging.staged_comment_sentiment (item_id),
    staging.staged_users (position, user_id),
    staging.staged_lists (position),
    staging.staged_pools (position),
    staging.staged_user_vectors (position)
