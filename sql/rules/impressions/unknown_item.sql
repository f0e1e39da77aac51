-- What: A slate with an item that is not in the table items.
-- Why: It was not shown by this recommender, or its catalogue is not loaded yet; housekeeping releases it once it is.
-- Reason: unknown_item
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'unknown_item' AS reason
FROM {batch} AS batch
WHERE EXISTS (
    SELECT FROM unnest(batch.item_ids) AS shown (item_id)
    WHERE shown.item_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM items WHERE items.item_id = shown.item_id)
)
