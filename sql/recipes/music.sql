-- Recipe for a music service: a track that was played rests for an hour and may then be played again, a skipped one
-- rests for a week, a disliked one does not come back.
-- Other event types stay as they are.
INSERT INTO event_types AS types (event_type, explicit, weight, polarity, role, hide_days)
VALUES
    ('view', false, 0.3, 0, 'step', 0),
    ('click', false, 0.3, 0, 'step', 0),
    ('listen', false, 1, 1, 'outcome', 1 / 24.0),
    ('like', true, 1, 1, 'outcome', 1 / 24.0),
    ('share', false, 1, 1, 'outcome', 1 / 24.0),
    ('skip', false, 0, -1, 'dislike', 7),
    ('dislike', true, 0, -1, 'dislike', NULL)
ON CONFLICT (event_type) DO UPDATE SET
    weight = excluded.weight,
    role = excluded.role,
    hide_days = excluded.hide_days
