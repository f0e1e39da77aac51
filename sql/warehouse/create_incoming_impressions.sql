-- Temporary table for rows of a file on their way to impressions; ctid keeps their order.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_impressions (
    impression_id text,
    user_id text,
    session_id text,
    query text,
    item_ids text[],
    propensities real[],
    model_version text,
    placement text,
    rules text[],
    shown_at timestamptz
) ON COMMIT DELETE ROWS
