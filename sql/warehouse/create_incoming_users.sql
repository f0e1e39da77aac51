CREATE TEMPORARY TABLE IF NOT EXISTS incoming_users (
    user_id text,
    consent boolean,
    attributes jsonb
) ON COMMIT DELETE ROWS
