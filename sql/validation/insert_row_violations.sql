-- Record which rows of a window break which rules. A row stays in feedback if all the rules that it breaks only lower
-- the weight. Reads broken_rules (feedback_id, reason, earlier_transaction_id).
-- Parameters: window_id, down_weighted (names of rules).
INSERT INTO row_violations (window_id, feedback_id, reasons, quarantined, earlier_transaction_id)
SELECT
    :window_id,
    feedback_id,
    array_agg(DISTINCT reason ORDER BY reason),
    NOT bool_and(reason = ANY (CAST(:down_weighted AS text[]))),
    max(earlier_transaction_id)
FROM broken_rules
GROUP BY feedback_id
