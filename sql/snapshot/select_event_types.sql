-- All event types with their meaning.
SELECT event_type, explicit, weight, polarity, min_value, max_value, negative_to, positive_from
FROM event_types
ORDER BY event_type
