-- Insert or update items. Of several lines of an item the last that gives a value counts, and values that none gives
-- stay unchanged.
WITH latest AS (
    SELECT
        item_id,
        (array_agg(title ORDER BY ctid DESC) FILTER (WHERE title IS NOT NULL))[1] AS title,
        (array_agg(description ORDER BY ctid DESC) FILTER (WHERE description IS NOT NULL))[1] AS description,
        (array_agg(attributes ORDER BY ctid DESC) FILTER (WHERE attributes IS NOT NULL))[1] AS attributes,
        (array_agg(available ORDER BY ctid DESC) FILTER (WHERE available IS NOT NULL))[1] AS available,
        (array_agg(rest_days ORDER BY ctid DESC) FILTER (WHERE rest_days IS NOT NULL))[1] AS rest_days,
        (array_agg(available_from ORDER BY ctid DESC) FILTER (WHERE available_from IS NOT NULL))[1] AS available_from,
        (array_agg(available_until ORDER BY ctid DESC) FILTER (WHERE available_until IS NOT NULL))[1]
            AS available_until,
        (array_agg(variant_of ORDER BY ctid DESC) FILTER (WHERE variant_of IS NOT NULL))[1] AS variant_of
    FROM incoming_items
    GROUP BY item_id
),
updated AS (
    UPDATE items
    SET title = coalesce(latest.title, items.title),
        description = coalesce(latest.description, items.description),
        attributes = coalesce(latest.attributes, items.attributes),
        available = coalesce(latest.available, items.available),
        rest_days = coalesce(latest.rest_days, items.rest_days),
        available_from = coalesce(latest.available_from, items.available_from),
        available_until = coalesce(latest.available_until, items.available_until),
        variant_of = coalesce(latest.variant_of, items.variant_of)
    FROM latest
    WHERE items.item_id = latest.item_id
      AND (
          items.title, items.description, items.attributes, items.available, items.rest_days,
          items.available_from, items.available_until, items.variant_of
      ) IS DISTINCT FROM (
          coalesce(latest.title, items.title),
          coalesce(latest.description, items.description),
          coalesce(latest.attributes, items.attributes),
          coalesce(latest.available, items.available),
          coalesce(latest.rest_days, items.rest_days),
          coalesce(latest.available_from, items.available_from),
          coalesce(latest.available_until, items.available_until),
          coalesce(latest.variant_of, items.variant_of)
      )
    RETURNING 1
),
inserted AS (
    INSERT INTO items (
        item_id, title, description, attributes, available, rest_days, available_from, available_until,
        variant_of
    )
    SELECT
        item_id, coalesce(title, ''), coalesce(description, ''), coalesce(attributes, '{}'),
        coalesce(available, true), rest_days, available_from, available_until, variant_of
    FROM latest
    ORDER BY item_id
    ON CONFLICT (item_id) DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM inserted), (SELECT count(*) FROM updated)
