-- The catalogue as it was when this session's plan was made; the columns of snapshot/select_items.
select
    item_id, title, description, attributes, available, rest_days, available_from, available_until, variant_of
from staging.catalogue
where plan_id = staging.current_plan()
order by item_id
