-- What: A comment that is longer than :max_comment_length characters or has control characters.
-- Why: It is a file or a dump and not an opinion, and one such row can stall the text encoder.
-- Reason: comment_too_long_or_binary
-- Scan: shared
SELECT batch.feedback_id, 'comment_too_long_or_binary' AS reason
FROM {batch} AS batch
WHERE batch.comment IS NOT NULL
    -- CASE keeps the regular expression away from long comments: it fails on 256 MB.
    AND CASE
        WHEN length(batch.comment) > :max_comment_length THEN true
        ELSE left(batch.comment, 1000000) ~ '[\x01-\x08\x0B\x0C\x0E-\x1F\x7F]'
    END
