-- The whole catalogue. It includes items that may no longer be recommended, because users' histories refer to them.
SELECT item_id, title, description, attributes::text AS attributes, available
FROM items
ORDER BY item_id
