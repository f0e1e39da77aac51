-- Rows of a window that are in the feedback, how many of them are noise that is weighted down, and rows that
-- were erased at their users' request.
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
