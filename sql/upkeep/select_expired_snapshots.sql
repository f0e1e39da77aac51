-- Snapshots that are past their retention and no longer needed: not the latest of their kind, not what the champion
-- was trained on, and not the reservoirs that its next micro-update replays.
-- Parameter: days.
WITH champion AS (
    SELECT model_version
    FROM promotion_ledger
    WHERE champion_sequence IS NOT NULL
    ORDER BY champion_sequence DESC
    LIMIT 1
),

of_champion AS (
    SELECT snapshots.*
    FROM snapshots
    JOIN windows ON windows.window_id = snapshots.window_id
    JOIN promotion_ledger ON promotion_ledger.run_key = windows.run_key
    JOIN champion ON champion.model_version = promotion_ledger.model_version
    WHERE promotion_ledger.action = 'promote'
),

-- The same order as in snapshot/select_newest_known.sql.
of_next_update AS (
    SELECT DISTINCT ON (known.kind) known.snapshot_id
    FROM snapshots AS known
    JOIN of_champion
        ON known.trained_transaction_id <= of_champion.trained_transaction_id
        AND known.trained_occurred_before <= of_champion.trained_occurred_before
    WHERE known.kind IN ('reservoir', 'learned') AND of_champion.kind IN ('full', 'micro')
    ORDER BY known.kind, known.trained_transaction_id DESC, known.snapshot_id DESC
)

SELECT uri
FROM snapshots
WHERE created_at < clock_timestamp() - make_interval(days => :days)
    AND snapshot_id NOT IN (SELECT max(snapshot_id) FROM snapshots GROUP BY kind)
    AND snapshot_id NOT IN (SELECT snapshot_id FROM of_champion)
    AND snapshot_id NOT IN (SELECT snapshot_id FROM of_next_update)
