-- What: A slate of a model version that never existed; 12+13 names two that picked in turn.
-- Why: Its propensities are not those of a policy that is known, and what it showed would be held against the wrong one.
-- Reason: unknown_model_version
-- Scan: own
SELECT batch.impression_id, batch.shown_at, batch.transaction_id, 'unknown_model_version' AS reason
FROM {batch} AS batch
WHERE EXISTS (
    SELECT FROM unnest(string_to_array(batch.model_version, '+')) AS named (version)
    WHERE NOT EXISTS (SELECT FROM model_versions WHERE model_versions.model_version = named.version)
        AND NOT EXISTS (SELECT FROM publications WHERE publications.model_version = named.version)
)
