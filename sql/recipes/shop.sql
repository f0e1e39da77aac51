-- Recipe for a shop: what was looked at stays on lists, what was bought may be bought again.
-- The value of a purchase is its price or quantity; below 0 it is a return. What lasts rests by items.rest_days or
-- rest_periods. Ratings, likes and comments follow a purchase, so they are no targets of their own once it is one.
-- Other event types stay as they are.
INSERT INTO event_types AS types (
    event_type, explicit, weight, polarity, min_value, max_value, negative_to, positive_from, role, hide_days,
    value_is_amount
)
VALUES
    ('view', false, 0.3, 0, NULL, NULL, NULL, NULL, 'step', 0, false),
    ('click', false, 0.3, 0, NULL, NULL, NULL, NULL, 'step', 0, false),
    ('cart', false, 0.6, 1, NULL, NULL, NULL, NULL, 'step', 0, false),
    ('purchase', false, 1, 1, NULL, NULL, NULL, NULL, 'outcome', 0, true),
    ('rating', true, 1, 0, 0.5, 5, 2, 4, 'step', 0, false),
    ('like', true, 1, 1, NULL, NULL, NULL, NULL, 'step', 0, false),
    ('comment', true, 0.5, 0, NULL, NULL, NULL, NULL, 'step', 0, false),
    ('dislike', true, 0, -1, NULL, NULL, NULL, NULL, 'dislike', NULL, false)
ON CONFLICT (event_type) DO UPDATE SET
    weight = excluded.weight,
    role = excluded.role,
    hide_days = excluded.hide_days,
    value_is_amount = excluded.value_is_amount,
    -- An amount has no range and is a good sign; any other type keeps its scale.
    polarity = CASE WHEN excluded.value_is_amount THEN excluded.polarity ELSE types.polarity END,
    min_value = CASE WHEN excluded.value_is_amount THEN NULL ELSE types.min_value END,
    max_value = CASE WHEN excluded.value_is_amount THEN NULL ELSE types.max_value END,
    negative_to = CASE WHEN excluded.value_is_amount THEN NULL ELSE types.negative_to END,
    positive_from = CASE WHEN excluded.value_is_amount THEN NULL ELSE types.positive_from END,
    typical_amount = CASE WHEN excluded.value_is_amount THEN types.typical_amount END
