-- Temporary table for rows of a file on their way to feedback; ctid keeps their order.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_feedback (
    event_id text,
    user_id text,
    session_id text,
    item_id text,
    event_type text,
    value double precision,
    comment text,
    impression_id text,
    occurred_at timestamptz
) ON COMMIT DELETE ROWS
