SELECT
    pg_class.relname AS name,
    pg_get_expr(pg_class.relpartbound, pg_class.oid) AS bounds,
    pg_class.reltuples::bigint AS rows,
    pg_total_relation_size(pg_class.oid) AS bytes
FROM pg_inherits
JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = 'feedback'::regclass
ORDER BY pg_get_expr(pg_class.relpartbound, pg_class.oid) = 'DEFAULT', pg_class.relname
