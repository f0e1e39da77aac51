-- Feedback that a full fine-tune may know: every row of consenting users below the window's upper bound.
-- Rows that broke a rule are in quarantine by now; the joins keep rows out that no window has judged yet.
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
JOIN items ON items.item_id = feedback.item_id
JOIN event_types ON event_types.event_type = feedback.event_type
WHERE feedback.transaction_id < :upper_transaction_id
    AND isfinite(feedback.occurred_at)
    AND users.consent
    AND users.user_key IS NOT NULL
    AND NOT EXISTS (SELECT FROM erasure_requests WHERE erasure_requests.user_id = users.user_id)
