-- What: A query that is longer than :max_comment_length characters or has control characters.
-- Why: It is a file or a dump and not a request, and one such row can stall the text encoder.
-- Reason: query_too_long_or_binary
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'query_too_long_or_binary' AS reason
FROM {batch} AS batch
WHERE batch.query IS NOT NULL
    -- CASE keeps the regular expression away from long texts: it fails on 256 MB.
    AND CASE
        WHEN length(batch.query) > :max_comment_length THEN true
        ELSE left(batch.query, 1000000) ~ '[\x01-\x08\x0B\x0C\x0E-\x1F\x7F]'
    END
