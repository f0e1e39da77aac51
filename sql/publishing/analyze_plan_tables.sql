-- Let the planner know how many rows shards have staged; they are new.
analyze
    staging.staged_catalogue,
    staging.staged_items,
    staging.staged_item_vectors,
    staging.staged_similar_items,
    staging.staged_comment_sentiment,
    staging.staged_users,
    staging.staged_lists,
    staging.staged_pools,
    staging.staged_user_vectors
