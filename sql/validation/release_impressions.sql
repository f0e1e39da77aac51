-- Release slates that broke one rule only, unless they still break it.
-- Parameters: reason, settled_by.
UPDATE quarantined_impressions AS held
SET status = 'released', settled_at = clock_timestamp(), settled_by = :settled_by
WHERE held.status = 'held'
    AND held.reasons = ARRAY[CAST(:reason AS text)]
    AND (held.impression_id, held.shown_at) NOT IN (SELECT impression_id, shown_at FROM ({still_broken}) AS still_broken)
