-- Delete the lists of items that have none now: withdrawn ones, or all where the catalogue has become too large.
delete from item_lists
where kind = 'similar'
    and not exists (select from staged_similar_items as staged where staged.item_id = item_lists.item_id)
