-- Slates of a window by placement, and those of them in quarantine.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT
    coalesce(impressions.placement, '') AS placement,
    count(*) AS arrived,
    count(held.impression_id) AS held
FROM impressions
LEFT JOIN quarantined_impressions AS held
    ON (held.impression_id, held.shown_at) = (impressions.impression_id, impressions.shown_at)
    AND held.status = 'held'
WHERE impressions.transaction_id >= :lower_transaction_id AND impressions.transaction_id < :upper_transaction_id
GROUP BY 1
