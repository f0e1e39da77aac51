-- Insert impressions, except those whose id exists.
INSERT INTO impressions (impression_id, user_id, query, item_ids, propensities, model_version, shown_at)
SELECT impression_id, user_id, query, item_ids, propensities, model_version, shown_at
FROM incoming_impressions
ORDER BY ctid
ON CONFLICT (impression_id) DO NOTHING
