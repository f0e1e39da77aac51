-- Figures of a window's valid feedback for the table expectations, by event type and, for explicit types with a range,
-- by tenth of that range. Rows that will move to quarantine are left out.
-- Parameters: window_id, lower_transaction_id (inclusive), upper_transaction_id (exclusive).
WITH valid AS NOT MATERIALIZED (
    SELECT feedback.*
    FROM feedback
    WHERE feedback.transaction_id >= :lower_transaction_id
        AND feedback.transaction_id < :upper_transaction_id
        AND NOT EXISTS (
            SELECT FROM row_violations
            WHERE row_violations.window_id = :window_id
                AND row_violations.quarantined
                AND row_violations.feedback_id = feedback.feedback_id
        )
)

SELECT
    valid.event_type,
    CASE
        WHEN event_types.explicit
            THEN least(width_bucket(valid.value, event_types.min_value, event_types.max_value, 10), 10)
    END AS tenth,
    count(*) AS rows,
    count(*) - count(valid.value) AS null_values,
    count(*) - count(valid.comment) AS null_comments,
    count(*) - count(valid.impression_id) AS null_impressions,
    max(valid.occurred_at) FILTER (WHERE isfinite(valid.occurred_at)) AS newest
FROM valid
LEFT JOIN event_types ON event_types.event_type = valid.event_type
GROUP BY 1, 2
