-- The highest transaction id that is recorded although this cluster has not reached it, and the next id that it will
-- give out; no row if there is none.
WITH recorded AS (
    SELECT greatest(
        (SELECT max(transaction_id) + 1 FROM feedback),
        (SELECT max(transaction_id) + 1 FROM impressions),
        (SELECT max(transaction_id) + 1 FROM quarantine),
        (SELECT max(upper_transaction_id) FROM windows),
        (SELECT max(upper_transaction_id) FROM judged_impressions)
    ) AS first_new
),

cluster AS (
    SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + warehouse_transaction_offset() AS next
)

SELECT recorded.first_new - 1 AS recorded, cluster.next AS next
FROM recorded, cluster
WHERE recorded.first_new > cluster.next
