-- What: Feedback that names a logged impression of another user, or one whose slate does not contain the item.
-- Why: Off-policy estimates take propensities from the impression; a wrong one biases them. Unlogged ones are fine.
-- Reason: item_never_shown
-- Scan: own
SELECT batch.feedback_id, 'item_never_shown' AS reason
FROM {batch} AS batch
JOIN impressions ON impressions.impression_id = batch.impression_id
WHERE impressions.user_id <> batch.user_id
    OR batch.item_id <> ALL (impressions.item_ids)
