-- What: Feedback that names a logged impression whose slate does not hold the item, or of another user.
-- Why: Propensities are looked up there: a wrong one biases every off-policy estimate. An unlogged impression is fine.
-- Reason: item_never_shown
-- Scan: own
SELECT batch.feedback_id, 'item_never_shown' AS reason
FROM {batch} AS batch
JOIN impressions ON impressions.impression_id = batch.impression_id
WHERE impressions.user_id <> batch.user_id
    OR batch.item_id <> ALL (impressions.item_ids)
