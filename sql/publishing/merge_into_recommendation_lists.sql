-- Insert or update the staged lists and pools. The lock on the user's row prevents a list of a user who is being erased
-- now. A visitor who has become a user meanwhile gets none. The version of an interleaved list names both: 12+13.
-- Parameters :publication_id, :model_version, :through_transaction_id.
insert into recommendation_lists as lists (
    user_id, publication_id, model_version, item_ids, scores, propensities, reasons, language, titles, available_until,
    pool_item_ids, pool_scores, through_transaction_id, published_at
)
select
    users.user_id,
    :publication_id,
    case
        when staged_pools.of_challenger is null then coalesce(staged_users.model_version, :model_version)
        else :model_version || '+' || staged_users.model_version
    end,
    staged_lists.item_ids,
    staged_lists.scores,
    staged_lists.propensities,
    staged_lists.reasons,
    staged_lists.language,
    staged_lists.titles,
    staged_lists.available_until,
    staged_pools.item_ids,
    staged_pools.scores,
    :through_transaction_id,
    now()
from staged_lists
join staged_pools using (position)
join staged_users using (position)
join users using (user_id)
where users.joined_to is null
order by users.user_id
for key share of users
on conflict (user_id) do update set
    publication_id = excluded.publication_id,
    model_version = excluded.model_version,
    item_ids = excluded.item_ids,
    scores = excluded.scores,
    propensities = excluded.propensities,
    reasons = excluded.reasons,
    language = excluded.language,
    titles = excluded.titles,
    available_until = excluded.available_until,
    pool_item_ids = excluded.pool_item_ids,
    pool_scores = excluded.pool_scores,
    through_transaction_id = excluded.through_transaction_id,
    published_at = excluded.published_at
