-- The oldest transaction that has written and is still open, if there is one: windows end before it. Its
-- process (null: a prepared transaction), and for how long it has been open, or, where this role may not see
-- that, for how long feedback that arrived after it has been waiting for it.
SELECT
    locks.pid,
    prepared.gid AS prepared_as,
    greatest(
        extract(
            epoch FROM clock_timestamp() - least(
                coalesce(activity.xact_start, prepared.prepared),
                (SELECT min(received_at) FROM feedback WHERE transaction_id >= warehouse_horizon())
            )
        ) / 60,
        0
    )::double precision AS minutes
FROM pg_locks AS locks
LEFT JOIN pg_stat_activity AS activity ON activity.pid = locks.pid
LEFT JOIN pg_prepared_xacts AS prepared ON prepared.transaction = locks.transactionid
WHERE locks.locktype = 'transactionid'
    AND locks.mode = 'ExclusiveLock'
    AND locks.granted
    AND locks.transactionid = pg_snapshot_xmin(pg_current_snapshot())::xid
