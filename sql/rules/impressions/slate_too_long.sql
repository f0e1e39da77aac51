-- What: A slate of more than 1000 items.
-- Why: No placement shows so many; it is a catalogue or a log in one row, and nearly all of it would count as passed over.
-- Reason: slate_too_long
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'slate_too_long' AS reason
FROM {batch} AS batch
WHERE cardinality(batch.item_ids) > 1000
