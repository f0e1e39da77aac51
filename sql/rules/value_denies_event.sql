-- What: A value of 0 or below of a positive type without a range, or of 0 of a negative one; amounts may have any.
-- Why: A like of 0 is a flag that says "no", and a purchase of -6 is a return; counted as they are, they mean yes.
-- Reason: value_denies_event
-- Scan: shared
SELECT batch.feedback_id, 'value_denies_event' AS reason
FROM {batch} AS batch
WHERE batch.polarity <> 0
    AND batch.min_value IS NULL
    AND batch.max_value IS NULL
    AND NOT batch.value_is_amount
    AND batch.value <= 0
    AND (batch.polarity > 0 OR batch.value = 0)
    AND batch.value > '-Infinity'
