-- Give rows of a window that still name a visitor to the user who has joined the session. They were being written while
-- somebody logged in.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
UPDATE feedback
SET user_id = visitors.joined_to
FROM users AS visitors
WHERE feedback.transaction_id >= :lower_transaction_id
    AND feedback.transaction_id < :upper_transaction_id
    AND feedback.session_id IS NOT NULL
    AND visitors.user_id = feedback.user_id
    AND visitors.joined_to IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM erasure_requests AS requests
        WHERE requests.user_id = visitors.user_id AND requests.status = 'requested'
    )
