-- Move a window's rows that break rules to quarantine, each with all its reasons. One statement, so that a row is
-- always in exactly one of the tables. JSON holds no string of 256 MB, so of the texts that no index limits only the
-- first million characters are kept.
-- Parameters: window_id, lower_transaction_id (inclusive; of the earliest row that broke a rule, if it arrived before
--   the window), upper_transaction_id (exclusive).
WITH moved AS (
    DELETE FROM feedback
    USING row_violations AS broken
    WHERE broken.window_id = :window_id
        AND broken.quarantined
        AND feedback.feedback_id = broken.feedback_id
        AND feedback.transaction_id >= :lower_transaction_id
        AND feedback.transaction_id < :upper_transaction_id
    RETURNING
        feedback.feedback_id,
        feedback.user_id,
        feedback.transaction_id,
        broken.reasons,
        (
            SELECT to_jsonb(kept)
            FROM (
                SELECT
                    feedback.feedback_id,
                    feedback.event_id,
                    feedback.user_id,
                    feedback.item_id,
                    left(feedback.event_type, 1000000) AS event_type,
                    feedback.value,
                    left(feedback.comment, 1000000) AS comment,
                    left(feedback.impression_id, 1000000) AS impression_id,
                    feedback.occurred_at,
                    feedback.received_at,
                    feedback.transaction_id,
                    feedback.released_from,
                    left(feedback.session_id, 1000000) AS session_id
            ) AS kept
        ) AS feedback
),

-- Another window may have kept some of these rows with a lower weight.
no_longer_noisy AS (
    DELETE FROM noisy_feedback USING moved WHERE noisy_feedback.feedback_id = moved.feedback_id
)

INSERT INTO quarantine (feedback_id, window_id, reasons, user_id, transaction_id, feedback)
SELECT feedback_id, :window_id, reasons, user_id, transaction_id, feedback
FROM moved
