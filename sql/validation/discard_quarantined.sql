-- Mark a held row as discarded: it is never used.
-- Parameters: quarantine_id, settled_by.
UPDATE quarantine
SET status = 'discarded', settled_at = clock_timestamp(), settled_by = :settled_by
WHERE quarantine_id = :quarantine_id AND status = 'held'
