-- Forget items that are no longer in the catalogue.
delete from published_items as published
where not exists (select from staged_catalogue as staged where staged.item_id = published.item_id)
