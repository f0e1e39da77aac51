-- Items that look like one thing: equal attributes, and a title that differs in case and spaces at most. They join the
-- group that one of them names already, or else the one named after the first of them. Items that name a group are left
-- out: a person has decided about them.
WITH alike AS (
    SELECT
        item_id,
        title,
        attributes,
        variant_of,
        count(*) OVER same AS items,
        coalesce(min(variant_of) OVER same, min(item_id) OVER same) AS proposed
    FROM items
    WHERE title ~ '\S'
    WINDOW same AS (PARTITION BY lower(regexp_replace(btrim(title), '\s+', ' ', 'g')), attributes)
)
SELECT item_id, proposed AS variant_of, title, attributes::text AS attributes
FROM alike
WHERE items > 1 AND variant_of IS NULL
ORDER BY proposed, item_id
