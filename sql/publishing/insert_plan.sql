-- Record a publication that will be computed in shards. It opens with open_plan, when all that shards read is there.
-- Parameters :experiment_id, :challenger, :challenger_first (null: no experiment runs), :run_key, :model_version, :champion_sequence, :everyone, :through_transaction_id, :moment, :settings (JSON),
--   :users, :items, :users_per_shard, :serving_bytes.
insert into staging.plans (
    experiment_id, challenger, challenger_first, run_key, model_version, champion_sequence, everyone, through_transaction_id, moment, settings, users, items,
    users_per_shard, serving_bytes
)
values (
    :experiment_id, :challenger, :challenger_first, :run_key, :model_version, :champion_sequence, :everyone, :through_transaction_id, :moment,
    cast(:settings as jsonb), :users, :items,
    :users_per_shard, :serving_bytes
)
returning plan_id
