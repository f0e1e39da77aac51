-- Windows whose rows do not add up, or were never counted although the run had an hour for it.
SELECT window_id
FROM windows
WHERE arrived <> valid + quarantined + duplicates + erased
    OR (reconciled_at IS NULL AND arrived > 0 AND opened_at < clock_timestamp() - interval '1 hour')
ORDER BY window_id
