-- Upper bound of a consumer's next window: the oldest open transaction, or, for an interval that ends in the past,
-- the first row received at or after its end; never below the lower bound. A row that claims to be received in the
-- future was written while the clock was wrong and says nothing about the order of arrival.
-- Parameters: lower, interval_end (or null).
SELECT greatest(
    CAST(:lower AS bigint),
    least(
        warehouse_horizon(),
        (
            SELECT transaction_id FROM feedback
            WHERE transaction_id >= :lower AND received_at >= CAST(:interval_end AS timestamptz)
              AND received_at <= clock_timestamp()
            ORDER BY transaction_id
            LIMIT 1
        ),
        (
            SELECT transaction_id FROM quarantine
            WHERE transaction_id >= :lower
              AND (feedback ->> 'received_at')::timestamptz >= CAST(:interval_end AS timestamptz)
              AND (feedback ->> 'received_at')::timestamptz <= clock_timestamp()
            ORDER BY transaction_id
            LIMIT 1
        )
    )
)
