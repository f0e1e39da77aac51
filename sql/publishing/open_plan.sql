-- Divide the users of this session's plan into shards of equal size, the last one apart, and let them begin.
with divided as (
    insert into staging.shards (plan_id, shard, first_position, last_position)
    select
        plan_id,
        number,
        number * users_per_shard,
        least((number + 1)::bigint * users_per_shard, users)
    from staging.plans
    cross join lateral generate_series(0, (users - 1) / users_per_shard) as number
    where plan_id = staging.current_plan()
)
update staging.plans
set
    state = 'staging',
    planned_at = clock_timestamp(),
    items = (select count(*) from staging.catalogue where plan_id = staging.current_plan())
where plan_id = staging.current_plan()
