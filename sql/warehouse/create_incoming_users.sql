-- Temporary table for rows of a file on their way to users; ctid keeps their order.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_users (
    user_id text,
    consent boolean,
    attributes jsonb
) ON COMMIT DELETE ROWS
