-- Number of slates in quarantine by rule.
SELECT unnest(reasons) AS reason, count(*) AS slates
FROM quarantined_impressions
WHERE status = 'held'
GROUP BY 1
ORDER BY 1
