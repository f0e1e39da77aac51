-- Shards of this session's plan that are not staged, or of which a list, pool or vector is missing. After a crash of the
-- server all that was staged is gone, users included (`is_lost`). Users who have been erased since need none. Set
-- operations stay linear where a join without statistics might not.
with plan as (
    select plan_id, users_per_shard from staging.plans where plan_id = staging.current_plan()
),
planned as (
    select position, user_id is not null as counts
    from staging.staged_users where plan_id = staging.current_plan()
),
lacking as (
    (
        select position from planned where counts
        except
        select position from staging.staged_lists where plan_id = staging.current_plan()
    )
    union all
    (
        select position from planned where counts
        except
        select position from staging.staged_pools where plan_id = staging.current_plan()
    )
    union all
    (
        select position from planned where counts
        except
        select position from staging.staged_user_vectors where plan_id = staging.current_plan()
    )
),
places as (
    select position / (select users_per_shard from plan) as shard, count(*) as users from planned group by 1
),
incomplete as (
    select position / (select users_per_shard from plan) as shard from lacking group by 1
)
select shards.shard, shards.state = 'staged' as is_lost
from plan
join staging.shards as shards using (plan_id)
left join places using (shard)
left join incomplete on incomplete.shard = shards.shard
where shards.state <> 'staged'
    or places.users is distinct from shards.last_position - shards.first_position
    or incomplete.shard is not null
order by shards.shard
