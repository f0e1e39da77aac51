-- Of each version that has been trained on users who were erased later: when the first of them asked. A version knows a
-- user if the user's first feedback lies below what it was trained on, and the full fine-tune that it descends from was
-- trained before the user asked. Versions that know no such user have no row. The index erasure_requests_order finds
-- the first request.
-- Parameter: versions.
SELECT versions.model_version, first_request.requested_at
FROM model_versions AS versions
CROSS JOIN LATERAL (
    SELECT requests.requested_at
    FROM erasure_requests AS requests
    WHERE requests.transaction_id >= versions.base_transaction_id
        AND requests.first_transaction_id < versions.trained_transaction_id
    ORDER BY requests.transaction_id, requests.requested_at
    LIMIT 1
) AS first_request
WHERE versions.model_version = ANY(:versions)
