-- Temporary table for rows of a file on their way to items; ctid keeps their order.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_items (
    item_id text,
    title text,
    description text,
    attributes jsonb,
    available boolean,
    rest_days double precision,
    available_from timestamptz,
    available_until timestamptz,
    variant_of text
) ON COMMIT DELETE ROWS
