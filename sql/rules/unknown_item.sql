-- What: Feedback on an item that is not in the table items.
-- Why: The model would learn an item that has no text and cannot be shown to anybody.
-- Reason: unknown_item
-- Scan: shared
SELECT batch.feedback_id, 'unknown_item' AS reason
FROM {batch} AS batch
WHERE NOT batch.item_is_known
