-- First days of the months whose partitions ended more than a number of months ago, oldest first.
-- Parameter: months.
SELECT month
FROM pg_inherits
JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
CROSS JOIN LATERAL (
    SELECT make_date(substr(relname, 10, 4)::integer, substr(relname, 15, 2)::integer, 1) AS month
    WHERE relname ~ '^feedback_\d{4}_\d{2}$'
) AS named
WHERE pg_inherits.inhparent = 'feedback'::regclass
    AND month + interval '1 month' <= (now() AT TIME ZONE 'UTC') - make_interval(months => :months)
ORDER BY month
