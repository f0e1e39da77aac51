-- What: Feedback whose type is not in the table event_types.
-- Why: The meaning of the event (weight, polarity, range of values) is not defined.
-- Reason: unknown_event_type
-- Scan: shared
SELECT batch.feedback_id, 'unknown_event_type' AS reason
FROM {batch} AS batch
WHERE NOT batch.type_is_known
