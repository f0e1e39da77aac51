-- Slates in quarantine that broke one rule only.
-- Parameter: reason.
SELECT impressions.* FROM impressions
JOIN quarantined_impressions AS held USING (impression_id, shown_at)
WHERE held.status = 'held' AND held.reasons = ARRAY[CAST(:reason AS text)]
