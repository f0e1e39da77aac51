-- All event types by the hash that select_full_snapshot.sql gives for them.
-- Parameters: hash_seed.
SELECT event_type AS name, hashtextextended(event_type, :hash_seed) AS hash
FROM event_types
