-- Note the staged items as published; only rows that differ are written.
insert into published_items as published (item_id, title, text_digest, available)
select staged.item_id, staged.title, staged.text_digest, staged.available
from staged_catalogue as staged
left join published_items as known using (item_id)
where (known.title, known.text_digest, known.available)
    is distinct from (staged.title, staged.text_digest, staged.available)
order by staged.item_id
on conflict (item_id) do update set
    title = excluded.title,
    text_digest = excluded.text_digest,
    available = excluded.available
