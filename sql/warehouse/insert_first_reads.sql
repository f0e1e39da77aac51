-- Which transactions each promoted version was the first to read. The last row has what none has read yet.
WITH promoted AS (
    SELECT
        windows.upper_transaction_id AS upper,
        windows.opened_at,
        ledger.decided_at,
        (
            SELECT min(published_at) FROM publications
            WHERE publications.model_version = ledger.model_version
                AND publications.published_at >= ledger.decided_at
        ) AS published_at
    FROM promotion_ledger AS ledger
    JOIN windows ON windows.run_key = ledger.run_key
    WHERE ledger.action = 'promote'
),

ordered AS (
    SELECT
        coalesce(
            max(upper) OVER (ORDER BY decided_at, upper ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0
        ) AS lower,
        *
    FROM promoted
),

reads AS (
    SELECT lower, upper, opened_at, decided_at, published_at FROM ordered WHERE upper > lower
    UNION ALL
    SELECT coalesce(max(upper), 0), 9223372036854775807, NULL, NULL, NULL FROM ordered
)

INSERT INTO first_reads (lower, upper, opened_at, decided_at, published_at, digest)
SELECT
    *,
    hashtextextended(
        concat_ws(
            ' ', lower, upper, extract(epoch FROM opened_at), extract(epoch FROM decided_at),
            extract(epoch FROM published_at)
        ),
        0
    )
FROM reads
