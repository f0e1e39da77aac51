-- Shards of this session's plan that are not staged, or of which a list, pool or vector is missing. After a crash of the
-- server all that was staged is gone, users included (`is_lost`). Users who have been erased since need none.
select shards.shard, shards.state = 'staged' as is_lost
from staging.plans as plans
join staging.shards as shards using (plan_id)
left join staging.staged_users as planned
    on planned.plan_id = plans.plan_id and planned.position / plans.users_per_shard = shards.shard
left join staging.staged_lists as lists
    on lists.plan_id = planned.plan_id and lists.position = planned.position
left join staging.staged_pools as pools
    on pools.plan_id = planned.plan_id and pools.position = planned.position
left join staging.staged_user_vectors as vectors
    on vectors.plan_id = planned.plan_id and vectors.position = planned.position
where plans.plan_id = staging.current_plan()
group by shards.shard, shards.state, shards.first_position, shards.last_position
having shards.state <> 'staged'
    or count(planned.position) <> shards.last_position - shards.first_position
    or bool_or(
        planned.user_id is not null
        and (lists.position is null or pools.position is null or vectors.position is null)
    )
order by shards.shard
