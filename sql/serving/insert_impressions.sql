-- Insert slates as an application does, with no more rights than to insert. One whose id exists changes nothing.
INSERT INTO impressions (
    impression_id, user_id, session_id, query, item_ids, propensities, model_version, placement, rules, shown_at
)
SELECT impression_id, user_id, session_id, query, item_ids, propensities, model_version, placement, rules, shown_at
FROM ROWS FROM (
    json_to_recordset(CAST(:rows AS json)) AS (
        impression_id text, user_id text, session_id text, query text, item_ids text[], propensities real[],
        model_version text, placement text, rules text[], shown_at timestamptz
    )
) WITH ORDINALITY AS slate (
    impression_id, user_id, session_id, query, item_ids, propensities, model_version, placement, rules, shown_at, position
)
ORDER BY position
ON CONFLICT DO NOTHING
