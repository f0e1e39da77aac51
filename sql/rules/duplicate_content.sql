-- What: The same user, item, type, value, comment and time as a row that arrived earlier, which stays.
-- Why: Applications repeat events under new event ids when a request times out; each counts once.
-- Reason: duplicate_content
-- Scan: own
WITH arrived AS NOT MATERIALIZED (
    SELECT
        feedback.*,
        hashfloat8extended(date_part('epoch', occurred_at), hashtextextended(item_id, 0)) AS instant_hash
    FROM feedback
    WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
),

-- Sorting eight bytes a row finds the few rows worth a look; comparing whole rows takes several times longer.
repeated AS (
    SELECT instant_hash
    FROM (SELECT instant_hash FROM arrived ORDER BY instant_hash) AS sorted
    GROUP BY instant_hash
    HAVING count(*) > 1
),

within_window AS (
    SELECT
        arrived.feedback_id,
        arrived.released_from,
        row_number() OVER (
            PARTITION BY
                arrived.user_id,
                arrived.occurred_at,
                arrived.item_id,
                arrived.event_type,
                arrived.value,
                arrived.comment
            ORDER BY arrived.transaction_id, arrived.feedback_id
        ) AS place
    FROM arrived
    JOIN repeated ON repeated.instant_hash = arrived.instant_hash
)

SELECT feedback_id, 'duplicate_content' AS reason
FROM within_window
WHERE place > 1 AND released_from IS NULL
UNION ALL
SELECT batch.feedback_id, 'duplicate_content'
FROM {batch} AS batch
WHERE EXISTS (SELECT FROM feedback WHERE transaction_id < :lower_transaction_id)
    AND EXISTS (
        SELECT FROM feedback AS earlier
        WHERE earlier.user_id = batch.user_id
            AND earlier.occurred_at = batch.occurred_at
            AND earlier.item_id = batch.item_id
            AND earlier.event_type = batch.event_type
            AND earlier.value IS NOT DISTINCT FROM batch.value
            AND earlier.comment IS NOT DISTINCT FROM batch.comment
            AND earlier.transaction_id < :lower_transaction_id
    )
