-- Move held rows back to feedback whose user, item and type were not known when they arrived and are known now. They
-- arrive again and are judged again, because released_from stays empty. Of rows with the same event id and time the
-- first moves, unless feedback has that event already.
-- Parameters: reason (only rows with it; null: all), limit, settled_by.
WITH known AS (
    SELECT DISTINCT ON (feedback ->> 'event_id', feedback ->> 'occurred_at') quarantine_id
    FROM quarantine
    WHERE status = 'held'
        AND reasons <@ ARRAY['unknown_user', 'unknown_item', 'unknown_event_type']
        AND (CAST(:reason AS text) IS NULL OR CAST(:reason AS text) = ANY (reasons))
        AND EXISTS (SELECT FROM users WHERE users.user_id = quarantine.user_id)
        AND EXISTS (SELECT FROM items WHERE items.item_id = quarantine.feedback ->> 'item_id')
        AND EXISTS (SELECT FROM event_types WHERE event_types.event_type = quarantine.feedback ->> 'event_type')
        AND NOT EXISTS (
            SELECT FROM feedback AS present
            WHERE present.event_id = quarantine.feedback ->> 'event_id'
                AND present.occurred_at IS NOT DISTINCT FROM (quarantine.feedback ->> 'occurred_at')::timestamptz
        )
    ORDER BY feedback ->> 'event_id', feedback ->> 'occurred_at', quarantine_id
    LIMIT :limit
),

released AS (
    UPDATE quarantine
    SET status = 'released', settled_at = clock_timestamp(), settled_by = :settled_by
    FROM known
    WHERE quarantine.quarantine_id = known.quarantine_id AND quarantine.status = 'held'
    RETURNING quarantine.quarantine_id, quarantine.feedback
)

INSERT INTO feedback (event_id, user_id, item_id, event_type, value, comment, impression_id, occurred_at, session_id)
SELECT
    original.event_id,
    original.user_id,
    original.item_id,
    original.event_type,
    original.value,
    original.comment,
    original.impression_id,
    original.occurred_at,
    original.session_id
FROM released
CROSS JOIN LATERAL jsonb_populate_record(NULL::feedback, released.feedback) AS original
ORDER BY released.quarantine_id
ON CONFLICT DO NOTHING
