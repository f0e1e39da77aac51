-- Feedback that a full fine-tune may know: every row of consenting users below the window's upper bound.
-- Rows that broke a rule are in quarantine by now. Whoever reads the result leaves out rows of unknown
-- items and types, which only rows have that no window has judged yet: cheaper there than as joins.
-- Parameters: upper_transaction_id (exclusive).
SELECT
    feedback.feedback_id,
    users.user_key,
    feedback.item_id,
    feedback.event_type,
    feedback.value,
    feedback.comment,
    feedback.occurred_at,
    1.0::real AS weight,
    'full'::text AS purpose
FROM feedback
JOIN users ON users.user_id = feedback.user_id
WHERE feedback.transaction_id < :upper_transaction_id
    AND isfinite(feedback.occurred_at)
    AND users.consent
    AND users.user_key IS NOT NULL
    AND users.user_id <> ALL (ARRAY(SELECT user_id FROM erasure_requests WHERE user_id IS NOT NULL))
