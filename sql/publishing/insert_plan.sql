-- Record a publication that will be computed in shards. It opens with open_plan, when all that shards read is there.
-- Parameters :run_key, :model_version, :champion_sequence, :everyone, :through_transaction_id, :moment, :settings (JSON),
--   :users, :items, :users_per_shard, :serving_bytes.
insert into staging.plans (
    run_key, model_version, champion_sequence, everyone, through_transaction_id, moment, settings, users, items,
    users_per_shard, serving_bytes
)
values (
    :run_key, :model_version, :champion_sequence, :everyone, :through_transaction_id, :moment,
    cast(:settings as jsonb), :users, :items,
    :users_per_shard, :serving_bytes
)
returning plan_id
