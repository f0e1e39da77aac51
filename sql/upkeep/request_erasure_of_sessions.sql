-- Ask to erase the sessions that a user has joined: files hold what models learned from them under the visitors' keys.
-- The new requests are as old as the user's.
-- Parameter: request_id (the user's).
INSERT INTO erasure_requests (user_id, user_key, requested_at, transaction_id)
SELECT visitors.user_id, visitors.user_key, requests.requested_at, requests.transaction_id
FROM erasure_requests AS requests
JOIN users AS visitors ON visitors.joined_to = requests.user_id
WHERE requests.request_id = :request_id
    AND NOT EXISTS (
        SELECT FROM erasure_requests AS known
        WHERE known.user_id = visitors.user_id AND known.status = 'requested'
    )
RETURNING request_id
