-- Remove what shards have staged. There is one open plan at most, so nobody else's rows are here.
truncate
    staging.staged_catalogue,
    staging.catalogue,
    staging.staged_items,
    staging.staged_item_vectors,
    staging.staged_similar_items,
    staging.staged_comment_sentiment,
    staging.staged_users,
    staging.staged_lists,
    staging.staged_pools,
    staging.staged_user_vectors
