-- What: A value that is outside its type's range, missing although the type needs one, infinite or not a number.
-- Why: A rating of 50 or NaN would ruin the training losses. Values of types without a range are ignored.
-- Reason: value_out_of_range
-- Scan: shared
SELECT batch.feedback_id, 'value_out_of_range' AS reason
FROM {batch} AS batch
WHERE batch.type_is_known
    AND CASE
        WHEN batch.value IS NULL
            THEN batch.min_value IS NOT NULL AND batch.max_value IS NOT NULL
        -- In Postgres NaN is greater than infinity.
        ELSE batch.value <= '-Infinity'
            OR batch.value >= 'Infinity'
            OR batch.value < batch.min_value
            OR batch.value > batch.max_value
    END
