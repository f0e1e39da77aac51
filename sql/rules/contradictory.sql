-- What: A like and a dislike (or other opinions of opposite polarity) by one user on one item at the same time.
-- Why: It is unknown which of the two the user meant, so neither is used.
-- Reason: contradictory
-- Scan: own
-- Noise: yes
WITH within_window AS (
    SELECT
        related.feedback_id,
        related.released_from,
        min(event_types.polarity) OVER same AS lowest,
        max(event_types.polarity) OVER same AS highest
    FROM {related} AS related
    JOIN event_types ON event_types.event_type = related.event_type
    WHERE event_types.explicit AND event_types.polarity <> 0 AND related.occurred_at IS NOT NULL
    WINDOW same AS (PARTITION BY related.user_id, related.occurred_at, related.item_id)
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
