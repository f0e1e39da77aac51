-- What: A value outside its type's range, none where the type needs one, or one that is no number.
-- Why: A rating of 50 or of NaN would poison the losses. Types without a range may carry any number; it is ignored.
-- Reason: value_out_of_range
-- Scan: shared
SELECT batch.feedback_id, 'value_out_of_range' AS reason
FROM {batch} AS batch
WHERE batch.type_is_known
    AND CASE
        WHEN batch.value IS NULL
            THEN batch.min_value IS NOT NULL AND batch.max_value IS NOT NULL
        -- NaN sorts above infinity
        ELSE batch.value <= '-Infinity'
            OR batch.value >= 'Infinity'
            OR batch.value < batch.min_value
            OR batch.value > batch.max_value
    END
