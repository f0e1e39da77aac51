-- The first :positions items of the published lists of the users :user_ids, as an application would show them.
select
    recommendations.user_id,
    array_agg(recommendations.item_id order by recommendations.rank) as item_ids,
    array_agg(recommendations.propensity order by recommendations.rank) as propensities,
    min(recommendations.model_version) as model_version
from recommendations
where recommendations.user_id = any(cast(:user_ids as text[])) and recommendations.rank <= :positions
group by recommendations.user_id
