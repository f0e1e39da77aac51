-- The publication that is computed in shards now, if any, and how far it is. `silent_for` is the time since one of its
-- shards last wrote, and `is_replaced` says that there has been another promotion.
select
    plans.plan_id,
    plans.run_key,
    count(*) as shards,
    count(*) filter (where shards.state = 'staged') as staged,
    clock_timestamp() - greatest(plans.planned_at, max(shards.touched_at)) as silent_for,
    plans.champion_sequence <> (select max(champion_sequence) from promotion_ledger) as is_replaced
from staging.plans as plans
join staging.shards as shards using (plan_id)
where plans.state = 'staging'
group by plans.plan_id
