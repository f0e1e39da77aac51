-- Record a publication with the numbers of lists and of item vectors in it.
-- Parameters :run_key, :model_version, :scope, :through_transaction_id, :experiment_id.
insert into publications (run_key, model_version, scope, users, items, through_transaction_id, published_at, experiment_id)
select
    :run_key,
    :model_version,
    :scope,
    (
        select count(*)
        from staged_lists
        join staged_users using (position)
        join users using (user_id)
    ),
    (select count(*) from staged_items join items using (item_id)),
    :through_transaction_id,
    now(),
    cast(:experiment_id as bigint)
returning *
