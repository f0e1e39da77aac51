-- Compare a distribution with a reference: population stability index (symmetric) and Kullback-Leibler divergence of
-- the observed from the reference, in nats. Half a row is added to every bin of both, so that a bin that only one of
-- them has counts as rare and not as impossible.
-- Parameters: observed, reference (JSON objects of rows by bin).
WITH bins AS (
    SELECT
        coalesce(observed.value::double precision, 0) + 0.5 AS observed,
        coalesce(reference.value::double precision, 0) + 0.5 AS reference
    FROM jsonb_each_text(CAST(:observed AS jsonb)) AS observed
    FULL JOIN jsonb_each_text(CAST(:reference AS jsonb)) AS reference ON reference.key = observed.key
),

shares AS (
    SELECT observed / sum(observed) OVER () AS p, reference / sum(reference) OVER () AS q
    FROM bins
)

SELECT
    coalesce(sum((p - q) * ln(p / q)), 0) AS psi,
    coalesce(sum(p * ln(p / q)), 0) AS kl
FROM shares
