-- All items with the hashes that select_full_snapshot.sql uses for them.
-- Parameter: hash_seed.
SELECT item_id AS name, hashtextextended(item_id, :hash_seed) AS hash
FROM items
