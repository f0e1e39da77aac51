-- The whole catalogue, also items that may not be recommended any more: users' histories refer to them.
SELECT item_id, title, description, attributes::text AS attributes, available
FROM items
ORDER BY item_id
