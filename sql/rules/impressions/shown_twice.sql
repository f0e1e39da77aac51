-- What: A slate that its user was shown at the same instant in the same placement under another id before.
-- Why: An application has sent it twice and named it anew; what was passed over would count twice.
-- Reason: shown_twice
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'shown_twice' AS reason
FROM {batch} AS batch
WHERE EXISTS (
    SELECT FROM impressions AS other
    WHERE other.user_id = batch.user_id
        AND other.shown_at = batch.shown_at
        AND other.placement IS NOT DISTINCT FROM batch.placement
        AND other.item_ids = batch.item_ids
        AND (other.transaction_id, other.impression_id) < (batch.transaction_id, batch.impression_id)
)
