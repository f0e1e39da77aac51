-- Move a window's rows that break rules into quarantine, each with all its reasons. One statement: a
-- row is in one table or the other at every moment. The braces stand for the SELECTs of sql/rules, joined
-- by UNION ALL, each with the window's rows in place of its batch.
-- Parameters: window_id, lower_transaction_id (inclusive), upper_transaction_id (exclusive).
WITH broken AS (
    {rules}
),

judged AS (
    SELECT feedback_id, array_agg(DISTINCT reason ORDER BY reason) AS reasons
    FROM broken
    GROUP BY feedback_id
),

moved AS (
    DELETE FROM feedback
    USING judged
    WHERE feedback.feedback_id = judged.feedback_id
        AND feedback.transaction_id >= :lower_transaction_id
        AND feedback.transaction_id < :upper_transaction_id
    RETURNING feedback.feedback_id, feedback.user_id, feedback.transaction_id, judged.reasons, to_jsonb(feedback) AS feedback
)

INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)
SELECT feedback_id, :window_id, reasons, user_id, transaction_id, feedback
FROM moved
