-- Collect the UTC days of arrival whose feedback is new, was changed, or was read by other runs than before, with the
-- range of the transactions that wrote it.
-- Parameters: lower (transaction id of new rows, inclusive).
WITH noted AS (
    DELETE FROM changed_feedback WHERE arrival_day IS NOT NULL RETURNING arrival_day
),

arrived AS (
    SELECT
        (received_at AT TIME ZONE 'UTC')::date AS arrival_day,
        min(transaction_id) AS first_transaction_id,
        max(transaction_id) AS last_transaction_id
    FROM feedback
    WHERE transaction_id >= :lower
    GROUP BY 1
)

INSERT INTO changed_arrival_days (arrival_day, first_transaction_id, last_transaction_id)
SELECT
    arrival_day,
    least(known.first_transaction_id, arrived.first_transaction_id),
    greatest(known.last_transaction_id, arrived.last_transaction_id)
FROM feedback_lag_by_day AS known
FULL JOIN arrived USING (arrival_day)
WHERE arrived.first_transaction_id IS NOT NULL
    OR arrival_day IN (SELECT arrival_day FROM noted)
    OR known.runs <> (
        SELECT bit_xor(digest) FROM first_reads
        WHERE upper > known.first_transaction_id AND lower <= known.last_transaction_id
    )
