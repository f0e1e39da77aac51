-- Move a held row back to feedback. It gets a new feedback_id, arrival time and transaction id, and so belongs to the
-- next window. Row rules skip it because released_from is set.
-- Parameters: quarantine_id, settled_by.
WITH released AS (
    UPDATE quarantine
    SET status = 'released', settled_at = clock_timestamp(), settled_by = :settled_by
    WHERE quarantine_id = :quarantine_id AND status = 'held'
    RETURNING quarantine_id, feedback
)

INSERT INTO feedback (
    event_id, user_id, item_id, event_type, value, comment, impression_id, occurred_at, session_id, released_from
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
    original.session_id,
    released.quarantine_id
FROM released
CROSS JOIN LATERAL jsonb_populate_record(NULL::feedback, released.feedback) AS original
RETURNING feedback_id
