-- People who asked to be forgotten and still are in the warehouse, once each.
SELECT DISTINCT ON (user_id) user_id
FROM erasure_requests
WHERE status = 'requested' AND user_id IS NOT NULL
ORDER BY user_id, request_id
