-- Insert or update the staged lists of similar items; only rows that differ are written.
insert into item_lists (kind, item_id, item_ids, scores)
select 'similar', staged.item_id, staged.item_ids, staged.scores
from staged_similar_items as staged
join items using (item_id)
left join item_lists as known on known.kind = 'similar' and known.item_id = staged.item_id
where (known.item_ids, known.scores) is distinct from (staged.item_ids, staged.scores)
order by staged.item_id
on conflict (kind, item_id) do update set item_ids = excluded.item_ids, scores = excluded.scores
