-- Rows of a window that may repeat or contradict another row of it, called related in rules: they share the event id,
-- or item and time, with another row. Released rows are included. The rules compare these rows exactly.
-- Sorting an 8-byte hash of each row finds repeated values several times faster than comparing the ids. The hashes are
-- arrays because parallel workers can share an array, but not a grouped subquery or a temporary table. The time is
-- hashed as an interval since 2000, where Postgres starts to count, so that every time it can store is in range.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT feedback.*
FROM feedback
LEFT JOIN unnest(ARRAY(
    SELECT id_hash
    FROM (
        SELECT hashtextextended(event_id, 0) AS id_hash
        FROM feedback
        WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
        ORDER BY id_hash
    ) AS sorted
    GROUP BY id_hash
    HAVING count(*) > 1
)) AS repeated (id_hash) ON repeated.id_hash = hashtextextended(feedback.event_id, 0)
LEFT JOIN unnest(ARRAY(
    SELECT moment_hash
    FROM (
        SELECT hashtextextended(item_id, interval_hash_extended(occurred_at - '2000-01-01Z', 0)) AS moment_hash
        FROM feedback
        WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
        ORDER BY moment_hash
    ) AS sorted
    GROUP BY moment_hash
    HAVING count(*) > 1
)) AS simultaneous (moment_hash)
    ON simultaneous.moment_hash
    = hashtextextended(feedback.item_id, interval_hash_extended(feedback.occurred_at - '2000-01-01Z', 0))
WHERE feedback.transaction_id >= :lower_transaction_id
    AND feedback.transaction_id < :upper_transaction_id
    AND (repeated.id_hash IS NOT NULL OR simultaneous.moment_hash IS NOT NULL)
