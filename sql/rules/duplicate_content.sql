-- What: The same user, item, type, value, comment and time as a row that arrived earlier. The earlier row stays.
-- Why: Applications send an event again with a new event id when a request times out; it must count only once.
-- Reason: duplicate_content
-- Scan: own
WITH within_window AS (
    SELECT
        feedback_id,
        released_from,
        row_number() OVER (
            PARTITION BY user_id, occurred_at, item_id, event_type, value, comment
            ORDER BY transaction_id, feedback_id
        ) AS place
    FROM {related} AS related
    WHERE occurred_at IS NOT NULL
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
