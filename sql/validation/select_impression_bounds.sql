-- Slates that have not been judged: from the last bound to the oldest transaction that is still open.
SELECT
    coalesce(max(upper_transaction_id), 0) AS lower_transaction_id,
    greatest(warehouse_horizon(), coalesce(max(upper_transaction_id), 0)) AS upper_transaction_id
FROM judged_impressions
