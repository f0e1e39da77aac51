-- Stage the published lists of similar items, so that they stay.
insert into staged_similar_items (item_id, item_ids, scores)
select item_id, item_ids, scores from item_lists where kind = 'similar'
