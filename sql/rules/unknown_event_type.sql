-- What: Feedback of a type that is not in the table event_types.
-- Why: Nobody has said what the event means: its weight, its polarity, its range of values.
-- Reason: unknown_event_type
-- Scan: shared
SELECT batch.feedback_id, 'unknown_event_type' AS reason
FROM {batch} AS batch
WHERE NOT batch.type_is_known
