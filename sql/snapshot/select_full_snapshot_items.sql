-- All items by the hash that select_full_snapshot.sql gives for them.
-- Parameters: hash_seed.
SELECT item_id AS name, hashtextextended(item_id, :hash_seed) AS hash
FROM items
