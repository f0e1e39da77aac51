-- What: A slate without items, with a place that has none, or with an item at two places.
-- Why: The position of what was answered is not known, and an item that is looked at twice would count twice.
-- Reason: malformed_slate
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'malformed_slate' AS reason
FROM {batch} AS batch
WHERE coalesce(array_ndims(batch.item_ids), 0) <> 1
    OR array_position(batch.item_ids, NULL) IS NOT NULL
    OR cardinality(batch.item_ids) > (SELECT count(DISTINCT item_id) FROM unnest(batch.item_ids) AS item_id)
