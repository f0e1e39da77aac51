-- Insert impressions, except those whose id exists. A trigger names the user of a visitor's: somebody may have joined the
-- session.
INSERT INTO impressions (
    impression_id, user_id, session_id, query, item_ids, propensities, model_version, placement, rules,
    shown_at
)
SELECT
    impression_id,
    CASE WHEN user_id = visitor_id(session_id) THEN NULL ELSE user_id END,
    session_id, query, item_ids, propensities, model_version, placement, rules,
    shown_at
FROM incoming_impressions
ORDER BY ctid
ON CONFLICT DO NOTHING
