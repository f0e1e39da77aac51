-- Visitors whom nobody has joined and who have been silent for longer than their retention. What counts is when feedback
-- arrived, not when it happened: a file may be about years ago. A refusal of consent is kept, without feedback.
-- Parameters: days, visitor_consent (of visitors who have not stated it), after (a user id), limit.
SELECT visitors.user_id
FROM users AS visitors
WHERE visitors.kind = 'visitor'
    AND visitors.user_id > :after
    AND visitors.joined_to IS NULL
    AND visitors.created_at < clock_timestamp() - make_interval(days => :days)
    AND NOT EXISTS (
        SELECT FROM feedback
        WHERE feedback.user_id = visitors.user_id
            AND feedback.received_at >= clock_timestamp() - make_interval(days => :days)
    )
    AND (
        visitors.consent
        OR NOT :visitor_consent
        OR EXISTS (SELECT FROM feedback WHERE feedback.user_id = visitors.user_id)
    )
    AND NOT EXISTS (
        SELECT FROM erasure_requests AS requests
        WHERE requests.user_id = visitors.user_id AND requests.status = 'requested'
    )
ORDER BY visitors.user_id
LIMIT :limit
