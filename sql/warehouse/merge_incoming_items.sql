-- Insert or update items. The last line of an item counts; values that it does not give stay unchanged.
WITH latest AS (
    SELECT DISTINCT ON (item_id) * FROM incoming_items ORDER BY item_id, ctid DESC
),
updated AS (
    UPDATE items
    SET title = coalesce(latest.title, items.title),
        description = coalesce(latest.description, items.description),
        attributes = coalesce(latest.attributes, items.attributes),
        available = coalesce(latest.available, items.available),
        rest_days = coalesce(latest.rest_days, items.rest_days)
    FROM latest
    WHERE items.item_id = latest.item_id
      AND (items.title, items.description, items.attributes, items.available, items.rest_days) IS DISTINCT FROM (
          coalesce(latest.title, items.title),
          coalesce(latest.description, items.description),
          coalesce(latest.attributes, items.attributes),
          coalesce(latest.available, items.available),
          coalesce(latest.rest_days, items.rest_days)
      )
    RETURNING 1
),
inserted AS (
    INSERT INTO items (item_id, title, description, attributes, available, rest_days)
    SELECT
        item_id, coalesce(title, ''), coalesce(description, ''), coalesce(attributes, '{}'),
        coalesce(available, true), rest_days
    FROM latest
    ORDER BY item_id
    ON CONFLICT (item_id) DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM inserted), (SELECT count(*) FROM updated)
