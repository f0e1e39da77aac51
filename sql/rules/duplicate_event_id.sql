-- What: The same event id as a row that arrived earlier with another time, or in a month that is now retired.
-- Why: An event id identifies one event. (The table itself rejects a second row with the same id and time.)
-- Reason: duplicate_event_id
-- Scan: own
WITH within_window AS (
    SELECT
        feedback_id,
        released_from,
        row_number() OVER (PARTITION BY event_id ORDER BY transaction_id, feedback_id) AS place
    FROM {related} AS related
)

SELECT feedback_id, 'duplicate_event_id' AS reason
FROM within_window
WHERE place > 1 AND released_from IS NULL
UNION ALL
SELECT batch.feedback_id, 'duplicate_event_id'
FROM {batch} AS batch
WHERE EXISTS (SELECT FROM feedback WHERE transaction_id < :lower_transaction_id)
    AND EXISTS (
        SELECT FROM feedback AS earlier
        WHERE earlier.event_id = batch.event_id
            AND earlier.transaction_id < :lower_transaction_id
    )
UNION ALL
SELECT batch.feedback_id, 'duplicate_event_id'
FROM {batch} AS batch
WHERE EXISTS (SELECT FROM retired.feedback)
    AND EXISTS (SELECT FROM retired.feedback AS earlier WHERE earlier.event_id = batch.event_id)
