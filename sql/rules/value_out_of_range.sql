-- What: A value outside its type's range, none where the type needs one, or one that is no number.
-- Why: A rating of 50 or of NaN would poison the losses. Types without a range may carry any number; it is ignored.
-- Reason: value_out_of_range
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'value_out_of_range' AS reason
FROM batch
JOIN event_types ON event_types.event_type = batch.event_type
WHERE CASE
    WHEN batch.value IS NULL
        THEN event_types.min_value IS NOT NULL AND event_types.max_value IS NOT NULL
    -- NaN sorts above infinity
    ELSE batch.value <= '-Infinity'
        OR batch.value >= 'Infinity'
        OR batch.value < event_types.min_value
        OR batch.value > event_types.max_value
END
