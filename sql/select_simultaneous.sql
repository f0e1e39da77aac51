-- Rows of a window that have item and moment in common with another row of it, in rules as the simultaneous
-- ones. Grouped within each partition, by eight bytes in place of the item's id. Released rows too.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
WITH shared_moments AS (
    SELECT occurred_at, hashtextextended(item_id, 0) AS item_hash
    FROM feedback
    WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
    GROUP BY occurred_at, hashtextextended(item_id, 0)
    HAVING count(*) > 1
)

SELECT feedback.*
FROM feedback
JOIN shared_moments
    ON shared_moments.occurred_at = feedback.occurred_at
    AND shared_moments.item_hash = hashtextextended(feedback.item_id, 0)
WHERE feedback.transaction_id >= :lower_transaction_id AND feedback.transaction_id < :upper_transaction_id
