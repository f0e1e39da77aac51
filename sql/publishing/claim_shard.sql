-- Take a shard for a new attempt; an earlier attempt may not write any more. A shard that is staged stays as it is.
-- Parameters :plan_id, :shard.
update staging.shards
set
    attempt = attempt + 1,
    state = 'staging',
    touched_at = clock_timestamp()
where plan_id = :plan_id and shard = :shard and state in ('waiting', 'staging')
returning attempt, first_position, last_position
