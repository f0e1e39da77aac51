-- What: A slate with a propensity of 0, or with one for some of its items only.
-- Why: What had no chance was not shown by chance, and an estimate would divide by it.
-- Reason: impossible_propensity
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'impossible_propensity' AS reason
FROM {batch} AS batch
WHERE 0 = ANY (batch.propensities)
    OR array_position(batch.propensities, NULL) IS NOT NULL
