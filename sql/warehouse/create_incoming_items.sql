CREATE TEMPORARY TABLE IF NOT EXISTS incoming_items (
    item_id text,
    title text,
    description text,
    attributes jsonb,
    available boolean
) ON COMMIT DELETE ROWS
