-- Delete what an earlier attempt has staged of a shard.
-- Parameters :first, :last (exclusive).
with lists as (
    delete from staging.staged_lists
    where plan_id = staging.current_plan() and position >= :first and position < :last
),
pools as (
    delete from staging.staged_pools
    where plan_id = staging.current_plan() and position >= :first and position < :last
)
delete from staging.staged_user_vectors
where plan_id = staging.current_plan() and position >= :first and position < :last
