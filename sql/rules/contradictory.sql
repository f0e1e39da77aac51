-- What: A like and a dislike (any two opinions of opposite polarity) of one item by one user at one instant.
-- Why: Nobody can tell which of the two was meant, so neither is used.
-- Reason: contradictory
WITH batch AS (SELECT * FROM {batch})

SELECT batch.feedback_id, 'contradictory' AS reason
FROM batch
JOIN event_types AS meaning ON meaning.event_type = batch.event_type
WHERE meaning.explicit
    AND meaning.polarity <> 0
    AND EXISTS (
        SELECT FROM feedback AS other
        JOIN event_types AS opposite ON opposite.event_type = other.event_type
        WHERE other.user_id = batch.user_id
            AND other.occurred_at = batch.occurred_at
            AND other.item_id = batch.item_id
            AND other.transaction_id < :upper_transaction_id
            AND opposite.explicit
            AND opposite.polarity = -meaning.polarity
    )
