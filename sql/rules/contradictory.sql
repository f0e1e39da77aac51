-- What: A like and a dislike (any two opinions of opposite polarity) of one item by one user at one instant.
-- Why: Nobody can tell which of the two was meant, so neither is used.
-- Reason: contradictory
-- Scan: own
-- Noise: yes
WITH opinions AS NOT MATERIALIZED (
    SELECT
        feedback.*,
        event_types.polarity,
        hashfloat8extended(date_part('epoch', occurred_at), hashtextextended(item_id, 0)) AS instant_hash
    FROM feedback
    JOIN event_types ON event_types.event_type = feedback.event_type
    WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
        AND event_types.explicit
        AND event_types.polarity <> 0
),

-- As in duplicate_content: eight bytes a row, sorted, find the few worth a look.
disputed AS (
    SELECT instant_hash
    FROM (SELECT instant_hash, polarity FROM opinions ORDER BY instant_hash) AS sorted
    GROUP BY instant_hash
    HAVING min(polarity) <> max(polarity)
),

within_window AS (
    SELECT
        opinions.feedback_id,
        opinions.released_from,
        min(opinions.polarity) OVER same AS lowest,
        max(opinions.polarity) OVER same AS highest
    FROM opinions
    JOIN disputed ON disputed.instant_hash = opinions.instant_hash
    WINDOW same AS (PARTITION BY opinions.user_id, opinions.occurred_at, opinions.item_id)
)

SELECT feedback_id, 'contradictory' AS reason
FROM within_window
WHERE lowest <> highest AND released_from IS NULL
UNION ALL
SELECT batch.feedback_id, 'contradictory'
FROM {batch} AS batch
WHERE EXISTS (SELECT FROM feedback WHERE transaction_id < :lower_transaction_id)
    AND batch.explicit
    AND batch.polarity <> 0
    AND EXISTS (
        SELECT FROM feedback AS earlier
        JOIN event_types AS opposite ON opposite.event_type = earlier.event_type
        WHERE earlier.user_id = batch.user_id
            AND earlier.occurred_at = batch.occurred_at
            AND earlier.item_id = batch.item_id
            AND earlier.transaction_id < :lower_transaction_id
            AND opposite.explicit
            AND opposite.polarity = -batch.polarity
    )
