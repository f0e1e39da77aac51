-- Recipe for a newsroom: an article that was opened is read and stays off lists. What the reader does with it later
-- (like, bookmark, follow, comment, share) is credited to the event that opened it.
-- Other event types stay as they are.
INSERT INTO event_types AS types (event_type, explicit, weight, polarity, role, hide_days)
VALUES
    ('view', false, 0.3, 0, 'step', NULL),
    ('click', false, 0.3, 0, 'step', NULL),
    ('dwell', false, 0.3, 0, 'step', NULL),
    ('like', true, 1, 1, 'outcome', NULL),
    ('bookmark', true, 1, 1, 'outcome', NULL),
    ('follow', true, 1, 1, 'outcome', NULL),
    ('comment', true, 1, 0, 'outcome', NULL),
    ('share', false, 1, 1, 'outcome', NULL),
    ('dislike', true, 0, -1, 'dislike', NULL)
ON CONFLICT (event_type) DO UPDATE SET
    weight = excluded.weight,
    role = excluded.role,
    hide_days = excluded.hide_days
