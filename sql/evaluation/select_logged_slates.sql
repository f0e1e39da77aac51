-- Slates shown in a period that broke no rule, with those of their items that their user gave feedback of the given types,
-- unless it was negative: a low rating or a returned purchase is no reward. An answer is at most an hour older than its
-- slate, because clocks differ.
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
FROM valid_impressions AS impressions
LEFT JOIN users ON users.user_id = impressions.user_id AND users.consent
LEFT JOIN (
    SELECT slates.impression_id, array_agg(DISTINCT feedback.item_id) AS item_ids
    FROM impressions AS slates
    JOIN feedback
        ON feedback.impression_id = slates.impression_id
        AND feedback.user_id = slates.user_id
        AND feedback.occurred_at >= slates.shown_at - interval '1 hour'
    JOIN event_types ON event_types.event_type = feedback.event_type
    WHERE slates.shown_at >= :since
        AND slates.shown_at < :until
        AND feedback.event_type = ANY (CAST(:event_types AS text[]))
        AND feedback_sentiment(event_types, feedback.value) >= 0
        AND feedback.occurred_at >= CAST(:since AS timestamptz) - interval '1 hour'
        AND feedback.occurred_at < :until
    GROUP BY slates.impression_id
) AS answers ON answers.impression_id = impressions.impression_id
WHERE impressions.shown_at >= :since
    AND impressions.shown_at < :until
ORDER BY impressions.shown_at, impressions.impression_id
