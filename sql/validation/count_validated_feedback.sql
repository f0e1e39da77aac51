-- Count a window's rows in feedback, those of them that are noise with a lower weight, and erased rows.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT
    (
        SELECT count(*) FROM feedback
        WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
    ) AS valid,
    (
        SELECT count(*) FROM noisy_feedback
        WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
    ) AS down_weighted,
    (
        SELECT coalesce(sum(rows), 0)::bigint FROM erased_feedback
        WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
    ) AS erased
