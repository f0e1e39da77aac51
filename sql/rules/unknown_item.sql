-- What: Feedback on an item that is not in the table items.
-- Why: The model would learn an item that has no text and that nobody can be shown.
-- Reason: unknown_item
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'unknown_item' AS reason
FROM batch
WHERE NOT EXISTS (SELECT FROM items WHERE items.item_id = batch.item_id)
