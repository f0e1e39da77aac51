-- The oldest open transaction that has written, if any: windows end before it. Returns its process (null for a prepared
-- transaction) and the minutes it has been open. If this role may not see its start, the minutes are those that later
-- feedback has been waiting for it.
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
