-- The latest lists that were shown until a moment, one row for each item, with when its user answered it: the first
-- positive feedback of a type with a weight that names the impression and the item.
-- Left out: lists of users who may not be trained on and of guard users, lists in the future, lists that broke a rule or
-- came after the feedback, and what follows the first :most_positions places of a list. An item that a list shows twice
-- counts at its first place. Not answers: feedback of another user, and feedback from more than an hour before the list,
-- which clocks that differ do not explain.
-- Parameters: upper_transaction_id (of lists and feedback, exclusive), as_of (inclusive), most_slates, most_positions,
--   guard_bound (0 to 2^32: a user is a guard user if the first eight hex digits of the key are below it; 0: nobody is).
WITH slates AS (
    SELECT
        row_number() OVER (ORDER BY latest.shown_at, latest.impression_id) AS slate,
        latest.*
    FROM (
        SELECT
            impressions.impression_id,
            impressions.user_id,
            users.user_key,
            impressions.placement,
            nullif(btrim(impressions.query), '') AS query,
            impressions.shown_at,
            impressions.item_ids
        FROM valid_impressions AS impressions
        JOIN user_eligibility AS users ON users.user_id = impressions.user_id
        WHERE users.may_train
            AND users.user_key IS NOT NULL
            AND ('x' || left(users.user_key, 8))::bit(32)::bigint >= :guard_bound
            AND impressions.shown_at > '0001-01-01 UTC'
            AND impressions.shown_at <= :as_of
            AND impressions.transaction_id < :upper_transaction_id
        ORDER BY impressions.shown_at DESC, impressions.impression_id DESC
        LIMIT :most_slates
    ) AS latest
),

answers AS (
    SELECT
        feedback.impression_id,
        feedback.user_id,
        feedback.item_id,
        feedback.occurred_at
    FROM feedback
    JOIN event_types ON event_types.event_type = feedback.event_type
    WHERE feedback.impression_id IS NOT NULL
        AND feedback.transaction_id < :upper_transaction_id
        -- So that months before the first list are not read.
        AND feedback.occurred_at >= (SELECT min(shown_at) FROM slates) - interval '1 hour'
        AND feedback.occurred_at < '9999-12-31 UTC'
        AND event_types.weight > 0
        AND feedback_sentiment(event_types, feedback.value) >= 0
)

SELECT
    slates.slate,
    slates.user_key,
    slates.placement,
    slates.query,
    slates.shown_at,
    shown.item_id,
    min(shown.place) - 1 AS position,
    min(answers.occurred_at) AS answered_at
FROM slates
CROSS JOIN LATERAL unnest(slates.item_ids) WITH ORDINALITY AS shown (item_id, place)
LEFT JOIN answers
    ON answers.impression_id = slates.impression_id
    AND answers.user_id = slates.user_id
    AND answers.item_id = shown.item_id
    AND answers.occurred_at >= slates.shown_at - interval '1 hour'
WHERE shown.item_id IS NOT NULL AND shown.place <= :most_positions
GROUP BY slates.slate, slates.user_key, slates.placement, slates.query, slates.shown_at, shown.item_id
ORDER BY slates.slate, position
