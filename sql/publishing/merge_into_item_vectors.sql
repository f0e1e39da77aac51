-- Insert or update the staged item vectors.
-- Parameter :model_version.
insert into item_vectors (item_id, model_version, vector)
select items.item_id, :model_version, staged_item_vectors.vector
from staged_item_vectors
join staged_items using (position)
join items using (item_id)
order by items.item_id
on conflict (item_id) do update set model_version = excluded.model_version, vector = excluded.vector
