-- Slates shown in a period, with those of their items that got feedback of the given types.
-- Parameters: since (inclusive), until (exclusive), event_types.
SELECT
    impressions.impression_id,
    users.user_key,
    impressions.item_ids,
    impressions.propensities,
    impressions.model_version,
    coalesce(impressions.query, '') <> '' AS asked_in_words,
    impressions.shown_at,
    coalesce(answers.item_ids, '{}') AS answered
FROM impressions
LEFT JOIN users ON users.user_id = impressions.user_id AND users.consent
LEFT JOIN (
    SELECT feedback.impression_id, array_agg(DISTINCT feedback.item_id) AS item_ids
    FROM feedback
    WHERE feedback.impression_id IS NOT NULL
        AND feedback.event_type = ANY (CAST(:event_types AS text[]))
        AND feedback.occurred_at >= :since
        AND feedback.occurred_at < :until
    GROUP BY feedback.impression_id
) AS answers ON answers.impression_id = impressions.impression_id
WHERE impressions.shown_at >= :since AND impressions.shown_at < :until
ORDER BY impressions.shown_at, impressions.impression_id
