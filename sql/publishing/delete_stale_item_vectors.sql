-- Delete vectors of items that are withdrawn or no longer in the catalogue.
delete from item_vectors
where not exists (select from staged_items where staged_items.item_id = item_vectors.item_id)
