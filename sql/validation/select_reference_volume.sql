-- Median number of rows that arrived in the consumer's windows at the same hour of earlier weeks, and the number of
-- such weeks. A window that was handled late counts at the end of its interval. Times may differ by half an hour.
-- Parameters: consumer, window_id, as_of, weeks.
WITH earlier AS (
    SELECT
        windows.arrived,
        windows.window_id,
        extract(epoch FROM :as_of - least(windows.interval_end, windows.opened_at)) / 604800 AS weeks_ago
    FROM windows
    WHERE windows.consumer = :consumer AND windows.window_id < :window_id
),

same_hour AS (
    SELECT DISTINCT ON (round(weeks_ago)) arrived
    FROM earlier
    WHERE round(weeks_ago) BETWEEN 1 AND :weeks
        AND abs(weeks_ago - round(weeks_ago)) * 604800 <= 1800
    ORDER BY round(weeks_ago), window_id DESC
)

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY arrived) AS median, count(*) AS weeks
FROM same_hour
