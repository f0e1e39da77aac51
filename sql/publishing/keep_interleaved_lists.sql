-- Keep who picked which item of the staged lists, while an experiment interleaves them; forget those of ended ones.
-- Parameter :experiment_id (null: none runs).
with forgotten as (
    delete from interleaved_lists as lists
    where lists.experiment_id is distinct from cast(:experiment_id as bigint)
)
insert into interleaved_lists (experiment_id, user_id, published_at, item_ids, of_challenger)
select
    cast(:experiment_id as bigint),
    users.user_id,
    now(),
    staged_pools.item_ids[1:cardinality(staged_pools.of_challenger)],
    staged_pools.of_challenger
from staged_pools
join staged_users using (position)
join users using (user_id)
where staged_pools.of_challenger is not null
