-- Record which rows of a window are noise that stays in feedback: snapshots lower the weight of their users.
-- Parameters: window_id, lower_transaction_id (inclusive; of the earliest row that broke a rule, if it arrived before
--   the window), upper_transaction_id (exclusive).
INSERT INTO noisy_feedback (feedback_id, user_id, transaction_id, reasons)
SELECT feedback.feedback_id, feedback.user_id, feedback.transaction_id, broken.reasons
FROM row_violations AS broken
JOIN feedback ON feedback.feedback_id = broken.feedback_id
JOIN users ON users.user_id = feedback.user_id
WHERE broken.window_id = :window_id
    AND NOT broken.quarantined
    AND feedback.transaction_id >= :lower_transaction_id
    AND feedback.transaction_id < :upper_transaction_id
ON CONFLICT (feedback_id) DO NOTHING
