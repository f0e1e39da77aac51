-- What: Feedback of a type that is not in the table event_types.
-- Why: Nobody has said what the event means: its weight, its polarity, its range of values.
-- Reason: unknown_event_type
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'unknown_event_type' AS reason
FROM batch
WHERE NOT EXISTS (SELECT FROM event_types WHERE event_types.event_type = batch.event_type)
