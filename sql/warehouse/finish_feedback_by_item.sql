-- Delete the rows of items without feedback, and look up the last event of those whose feedback has changed.
WITH gone AS (
    DELETE FROM feedback_by_item WHERE events = 0
)

UPDATE feedback_by_item
SET last_event_at = (SELECT max(occurred_at) FROM feedback WHERE feedback.item_id = feedback_by_item.item_id)
WHERE month IS NULL AND last_event_at IS NULL AND events > 0
