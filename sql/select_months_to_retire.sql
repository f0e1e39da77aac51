-- First moments of the monthly partitions that are wholly older than some months; oldest first.
-- Parameters: months.
SELECT month_start
FROM pg_inherits
JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
CROSS JOIN LATERAL (
    SELECT make_timestamptz(substr(relname, 10, 4)::integer, substr(relname, 15, 2)::integer, 1, 0, 0, 0, 'UTC')
        AS month_start
    WHERE relname ~ '^feedback_\d{4}_\d{2}$'
) AS named
WHERE pg_inherits.inhparent = 'feedback'::regclass
    AND date_add(month_start, interval '1 month', 'UTC')
        <= date_subtract(now(), make_interval(months => :months), 'UTC')
ORDER BY month_start
