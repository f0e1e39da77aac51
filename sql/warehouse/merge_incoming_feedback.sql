-- Insert events, except those whose id exists and those that are in quarantine unchanged: a corrected event may come
-- again under its id. An event without an id gets one from its content, so that the same line counts only once, also after
-- somebody has joined its session.
-- It returns the numbers of inserted, updated (none) and held rows; held ones wait in quarantine unchanged.
WITH incoming AS MATERIALIZED (
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
        coalesce(
            (
                SELECT visitors.joined_to FROM users AS visitors
                WHERE incoming_feedback.session_id IS NOT NULL AND visitors.user_id = incoming_feedback.user_id
            ),
            user_id
        ) AS user_id,
        session_id, item_id, event_type, value, comment, impression_id, occurred_at,
        ctid AS position
    FROM incoming_feedback
),
inserted AS (
    INSERT INTO feedback (
        event_id, user_id, session_id, item_id, event_type, value, comment, impression_id, occurred_at
    )
    SELECT event_id, user_id, session_id, item_id, event_type, value, comment, impression_id, occurred_at
    FROM incoming
    WHERE NOT EXISTS (
        SELECT FROM quarantine
        WHERE quarantine.feedback ->> 'event_id' = incoming.event_id
          AND quarantine.feedback ->> 'user_id' = incoming.user_id
          AND quarantine.feedback ->> 'item_id' = incoming.item_id
          AND quarantine.feedback ->> 'event_type' = incoming.event_type
          AND quarantine.feedback ->> 'comment' IS NOT DISTINCT FROM incoming.comment
          AND (quarantine.feedback ->> 'value')::double precision IS NOT DISTINCT FROM incoming.value
          AND (quarantine.feedback ->> 'occurred_at')::timestamptz IS NOT DISTINCT FROM incoming.occurred_at
    )
    ORDER BY position
    ON CONFLICT DO NOTHING
    RETURNING 1
),
held AS (
    SELECT 1
    FROM incoming
    WHERE EXISTS (
        SELECT FROM quarantine
        WHERE quarantine.feedback ->> 'event_id' = incoming.event_id
          AND quarantine.feedback ->> 'user_id' = incoming.user_id
          AND quarantine.feedback ->> 'item_id' = incoming.item_id
          AND quarantine.feedback ->> 'event_type' = incoming.event_type
          AND quarantine.feedback ->> 'comment' IS NOT DISTINCT FROM incoming.comment
          AND (quarantine.feedback ->> 'value')::double precision IS NOT DISTINCT FROM incoming.value
          AND (quarantine.feedback ->> 'occurred_at')::timestamptz IS NOT DISTINCT FROM incoming.occurred_at
          AND quarantine.status = 'held'
    )
)
SELECT (SELECT count(*) FROM inserted), 0, (SELECT count(*) FROM held)
