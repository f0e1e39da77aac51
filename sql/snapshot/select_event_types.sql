-- All event types with their meaning.
SELECT
    event_type, explicit, weight, polarity, min_value, max_value, negative_to, positive_from,
    role, hide_days, value_is_amount, typical_amount
FROM event_types
ORDER BY event_type
