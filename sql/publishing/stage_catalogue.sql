-- Stage the items as they are now. This comes before the catalogue is read: an item that changes in between differs from
-- what is noted as published, and is published once more.
-- Parameter :at (time for which it is decided what is available).
insert into staged_catalogue (item_id, title, text_digest, available)
select
    item_id,
    title,
    md5(concat_ws(chr(1), title, description, attributes::text)),
    available and coalesce(available_from <= :at, true) and coalesce(available_until > :at, true)
from items
