-- What: The event id of a row that arrived earlier with another time.
-- Why: An event id names one event; the same id and time cannot be stored twice at all.
-- Reason: duplicate_event_id
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'duplicate_event_id' AS reason
FROM batch
WHERE EXISTS (
    SELECT FROM feedback AS earlier
    WHERE earlier.event_id = batch.event_id
        AND (earlier.transaction_id, earlier.feedback_id) < (batch.transaction_id, batch.feedback_id)
)
