-- Events with ids that are already there, or in quarantine, are left out. An event without an id gets
-- one from its content, so that the same line never counts twice.
INSERT INTO feedback (
    event_id, user_id, item_id, event_type, value, comment, impression_id, occurred_at
)
SELECT event_id, user_id, item_id, event_type, value, comment, impression_id, occurred_at
FROM (
    SELECT
        coalesce(
            event_id,
            'content-' || md5(
                concat_ws(
                    E'\x1f', user_id, item_id, event_type, extract(epoch FROM occurred_at),
                    coalesce(value::text, ''), coalesce(comment, ''), coalesce(impression_id, '')
                )
            )
        ) AS event_id,
        user_id, item_id, event_type, value, comment, impression_id, occurred_at,
        ctid AS position
    FROM incoming_feedback
) AS incoming
WHERE NOT EXISTS (SELECT FROM quarantine WHERE quarantine.feedback ->> 'event_id' = incoming.event_id)
ORDER BY position
ON CONFLICT DO NOTHING
