-- The next shard that no attempt has taken; with :taken_too also one that an attempt has left unfinished.
-- Parameters :plan_id, :taken_too.
select shard
from staging.shards
where plan_id = :plan_id and (state = 'waiting' or (:taken_too and state = 'staging'))
order by shard
limit 1
for update skip locked
