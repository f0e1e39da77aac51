-- Let a held row back into the feedback. It gets a new feedback_id, arrival time and transaction id and
-- so belongs to the next window; released_from tells the row rules to leave it alone.
-- Parameters: quarantine_id, settled_by.
WITH released AS (
    UPDATE quarantine
    SET status = 'released', settled_at = clock_timestamp(), settled_by = :settled_by
    WHERE quarantine_id = :quarantine_id AND status = 'held'
    RETURNING quarantine_id, feedback
)

INSERT INTO feedback (
    event_id, user_id, item_id, event_type, value, comment, impression_id, occurred_at, released_from
)
SELECT
    original.event_id,
    original.user_id,
    original.item_id,
    original.event_type,
    original.value,
    original.comment,
    original.impression_id,
    original.occurred_at,
    released.quarantine_id
FROM released
CROSS JOIN LATERAL jsonb_populate_record(NULL::feedback, released.feedback) AS original
RETURNING feedback_id
