-- Recipe for a video service: what was rated, liked or watched to its end stays off lists; what was only opened or begun
-- stays on them.
-- Other event types stay as they are. A rating keeps its scale.
INSERT INTO event_types AS types (
    event_type, explicit, weight, polarity, min_value, max_value, negative_to, positive_from, role, hide_days
)
VALUES
    ('view', false, 0.3, 0, NULL, NULL, NULL, NULL, 'step', 0),
    ('click', false, 0.3, 0, NULL, NULL, NULL, NULL, 'step', 0),
    ('dwell', false, 0.3, 0, 0, 86400, 3, 30, 'step', 0),
    ('finish', false, 1, 1, NULL, NULL, NULL, NULL, 'outcome', NULL),
    ('rating', true, 1, 0, 0.5, 5, 2, 4, 'outcome', NULL),
    ('like', true, 1, 1, NULL, NULL, NULL, NULL, 'outcome', NULL),
    ('share', false, 1, 1, NULL, NULL, NULL, NULL, 'outcome', NULL),
    ('dislike', true, 0, -1, NULL, NULL, NULL, NULL, 'dislike', NULL)
ON CONFLICT (event_type) DO UPDATE SET
    weight = excluded.weight,
    role = excluded.role,
    hide_days = excluded.hide_days
