-- The whole catalogue. It includes items that may no longer be recommended, because users' histories refer to them.
SELECT
    item_id, title, description, attributes::text AS attributes, available,
    coalesce(
        rest_days,
        (
            SELECT min(rest_periods.rest_days)
            FROM rest_periods
            WHERE items.attributes -> rest_periods.attribute ? rest_periods.value
               OR items.attributes ->> rest_periods.attribute = rest_periods.value
        )
    ) AS rest_days,
    available_from, available_until, variant_of
FROM items
ORDER BY item_id
