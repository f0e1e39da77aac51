-- Lock a shard for its attempt until the end of the transaction, and note that it is alive. No row: another attempt has
-- taken it, or its plan is closed.
-- Parameters :plan_id, :shard, :attempt, :state (after it), :device.
update staging.shards
set touched_at = clock_timestamp(), state = :state, device = :device
where plan_id = :plan_id and shard = :shard and attempt = :attempt and state = 'staging'
returning shard
