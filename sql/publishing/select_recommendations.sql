-- Current recommendations of a user, best first, without items that have been withdrawn since.
-- Parameters :user_id, :k.
select
    recommendations.rank,
    recommendations.item_id,
    items.title,
    recommendations.score,
    recommendations.reason,
    recommendations.model_version,
    recommendations.published_at
from recommendations
left join items on items.item_id = recommendations.item_id
where recommendations.user_id = :user_id
order by recommendations.rank
limit :k
