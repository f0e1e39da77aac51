-- Feedback that a full fine-tune may know: every row of consenting users below the window's upper bound.
-- Rows that broke a rule are in quarantine by now. Whoever reads the result leaves out rows of unknown
-- items and types, which only rows have that no window has judged yet: cheaper there than as joins.
-- A user is a number: the place of the user's key in what select_full_snapshot_user_keys.sql returns in
-- the same transaction, with the weight of the user's feedback. The purpose is the same for all rows.
-- Parameters: upper_transaction_id (exclusive).
SELECT
    feedback.feedback_id,
    eligible_users.user_number,
    feedback.item_id,
    feedback.event_type,
    feedback.value,
    feedback.comment,
    feedback.occurred_at
FROM feedback
JOIN (
    SELECT user_id, (row_number() OVER (ORDER BY user_id) - 1)::integer AS user_number
    FROM users
    WHERE consent
        AND user_key IS NOT NULL
        AND user_id <> ALL (ARRAY(SELECT user_id FROM erasure_requests WHERE user_id IS NOT NULL))
) AS eligible_users ON eligible_users.user_id = feedback.user_id
WHERE feedback.transaction_id < :upper_transaction_id
    AND isfinite(feedback.occurred_at)
