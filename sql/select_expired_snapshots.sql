-- Snapshots past their retention that nobody needs any more: neither the latest of their kind nor what
-- the champion was trained on.
-- Parameter: days.
WITH champion AS (
    SELECT model_version
    FROM promotion_ledger
    WHERE champion_sequence IS NOT NULL
    ORDER BY champion_sequence DESC
    LIMIT 1
)

SELECT snapshots.uri
FROM snapshots
WHERE snapshots.created_at < clock_timestamp() - make_interval(days => :days)
    AND snapshots.snapshot_id NOT IN (SELECT max(snapshot_id) FROM snapshots GROUP BY kind)
    AND NOT EXISTS (
        SELECT FROM promotion_ledger
        JOIN champion ON champion.model_version = promotion_ledger.model_version
        JOIN windows ON windows.run_key = promotion_ledger.run_key
        WHERE promotion_ledger.action = 'promote'
            AND windows.window_id = snapshots.window_id
    )
