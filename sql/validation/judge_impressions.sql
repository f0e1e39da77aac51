-- Quarantine the slates that break a rule, each once with all reasons, and record the bounds. A slate that was judged
-- before, or released, stays as it is.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive), and those of the rules.
WITH broken AS (
    {broken}
),

held AS (
    INSERT INTO quarantined_impressions (impression_id, shown_at, transaction_id, reasons)
    SELECT impression_id, shown_at, transaction_id, array_agg(DISTINCT reason ORDER BY reason)
    FROM broken
    GROUP BY impression_id, shown_at, transaction_id
    ON CONFLICT (impression_id, shown_at) DO NOTHING
    RETURNING transaction_id
)

INSERT INTO judged_impressions (lower_transaction_id, upper_transaction_id, arrived, quarantined)
SELECT
    :lower_transaction_id,
    :upper_transaction_id,
    (SELECT count(*) FROM {batch} AS arrived),
    (SELECT count(*) FROM held WHERE transaction_id >= :lower_transaction_id)
RETURNING lower_transaction_id, upper_transaction_id, arrived, quarantined
