-- Number of items whose published vector is missing, outdated or of a withdrawn item.
select count(*)
from staged_catalogue as staged
full join published_items as published using (item_id)
where (staged.available or published.available)
    and (staged.text_digest, staged.available) is distinct from (published.text_digest, published.available)
