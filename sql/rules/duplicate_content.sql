-- What: The same user, item, type, value, comment and time as a row that arrived earlier, which stays.
-- Why: Applications repeat events under new event ids when a request times out; each counts once.
-- Reason: duplicate_content
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'duplicate_content' AS reason
FROM batch
WHERE EXISTS (
    SELECT FROM feedback AS earlier
    WHERE earlier.user_id = batch.user_id
        AND earlier.occurred_at = batch.occurred_at
        AND earlier.item_id = batch.item_id
        AND earlier.event_type = batch.event_type
        AND earlier.value IS NOT DISTINCT FROM batch.value
        AND earlier.comment IS NOT DISTINCT FROM batch.comment
        AND (earlier.transaction_id, earlier.feedback_id) < (batch.transaction_id, batch.feedback_id)
)
