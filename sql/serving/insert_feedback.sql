-- Insert events as an application does, with no more rights than to insert. An event without an id gets one from its
-- content, the same as when it is loaded from a file.
INSERT INTO feedback (
    event_id, user_id, session_id, item_id, event_type, value, comment, impression_id, occurred_at
)
SELECT
    coalesce(
        event_id,
        'content-' || md5(
            concat_ws(
                E'\x1f', coalesce(user_id, 'visitor' || chr(58) || session_id), item_id, event_type,
                extract(epoch FROM occurred_at), coalesce(value::text, ''), coalesce(comment, ''),
                coalesce(impression_id, '')
            )
        )
    ),
    user_id, session_id, item_id, event_type, value, comment, impression_id, occurred_at
FROM ROWS FROM (
    json_to_recordset(CAST(:rows AS json)) AS (
        event_id text, user_id text, session_id text, item_id text, event_type text, value double precision,
        comment text, impression_id text, occurred_at timestamptz
    )
) WITH ORDINALITY AS event (
    event_id, user_id, session_id, item_id, event_type, value, comment, impression_id, occurred_at, position
)
ORDER BY position
ON CONFLICT DO NOTHING
