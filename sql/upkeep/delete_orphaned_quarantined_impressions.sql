-- Forget slates in quarantine that retention, or the end of a visitor's retention, has deleted.
DELETE FROM quarantined_impressions AS held
WHERE NOT EXISTS (
    SELECT FROM impressions
    WHERE (impressions.impression_id, impressions.shown_at) = (held.impression_id, held.shown_at)
)
