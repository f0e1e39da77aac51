-- What: The event id of a row that arrived earlier with another time, or in a month that is retired by now.
-- Why: An event id names one event; the same id and time cannot be stored twice at all.
-- Reason: duplicate_event_id
-- Scan: own
WITH arrived AS NOT MATERIALIZED (
    SELECT feedback.*, hashtextextended(event_id, 0) AS id_hash
    FROM feedback
    WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
),

-- Sorting eight bytes a row finds the few rows worth a look; comparing all ids takes several times longer.
repeated AS (
    SELECT id_hash
    FROM (SELECT id_hash FROM arrived ORDER BY id_hash) AS sorted
    GROUP BY id_hash
    HAVING count(*) > 1
),

within_window AS (
    SELECT
        arrived.feedback_id,
        arrived.released_from,
        row_number() OVER (
            PARTITION BY arrived.event_id ORDER BY arrived.transaction_id, arrived.feedback_id
        ) AS place
    FROM arrived
    JOIN repeated ON repeated.id_hash = arrived.id_hash
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
