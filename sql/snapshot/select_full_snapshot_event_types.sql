-- All event types with the hashes that select_full_snapshot.sql uses for them.
-- Parameter: hash_seed.
SELECT event_type AS name, hashtextextended(event_type, :hash_seed) AS hash
FROM event_types
