-- Delete silent visitors with all their rows and record how many came from each transaction, so that past windows still
-- reconcile. A visitor who is joined at this moment is left out. Snapshots forget them when they expire.
-- Parameters: user_ids, request_id (under which the rows are counted), visitor_consent (of visitors who have not stated
--   it: a refusal that differs from it is kept).
WITH expired AS MATERIALIZED (
    SELECT user_id, consent OR NOT :visitor_consent AS goes
    FROM users
    WHERE user_id = ANY (CAST(:user_ids AS text[])) AND joined_to IS NULL
    ORDER BY user_id
    FOR UPDATE
),
feedback_gone AS (
    DELETE FROM feedback USING expired WHERE feedback.user_id = expired.user_id RETURNING transaction_id
),
retired_gone AS (
    DELETE FROM retired.feedback AS old USING expired WHERE old.user_id = expired.user_id RETURNING transaction_id
),
quarantine_gone AS (
    DELETE FROM quarantine USING expired WHERE quarantine.user_id = expired.user_id
    RETURNING quarantine.transaction_id
),
noise_gone AS (
    DELETE FROM noisy_feedback USING expired WHERE noisy_feedback.user_id = expired.user_id
),
impressions_gone AS (
    DELETE FROM impressions USING expired WHERE impressions.user_id = expired.user_id
    RETURNING (impressions.shown_at AT TIME ZONE 'UTC')::date AS day
),
-- They hold hashes of people. The next refresh counts these days anew.
days_gone AS (
    DELETE FROM slates_by_day WHERE day IN (SELECT day FROM impressions_gone)
),
counts_gone AS (
    DELETE FROM feedback_by_user USING expired WHERE feedback_by_user.user_id = expired.user_id
),
lists_gone AS (
    DELETE FROM recommendation_lists AS lists USING expired WHERE lists.user_id = expired.user_id RETURNING 1
),
vectors_gone AS (
    DELETE FROM user_vectors AS vectors USING expired WHERE vectors.user_id = expired.user_id RETURNING 1
),
users_gone AS (
    DELETE FROM users USING expired WHERE users.user_id = expired.user_id AND expired.goes RETURNING 1
),
counted AS (
    INSERT INTO erased_feedback (request_id, transaction_id, rows)
    SELECT :request_id, transaction_id, count(*)
    FROM (
        SELECT transaction_id FROM feedback_gone
        UNION ALL SELECT transaction_id FROM retired_gone
        UNION ALL SELECT transaction_id FROM quarantine_gone
    ) AS gone
    GROUP BY transaction_id
    ON CONFLICT (request_id, transaction_id) DO UPDATE SET rows = erased_feedback.rows + excluded.rows
)
SELECT
    (SELECT count(*) FROM feedback_gone) AS feedback,
    (SELECT count(*) FROM retired_gone) AS retired_feedback,
    (SELECT count(*) FROM quarantine_gone) AS quarantine,
    (SELECT count(*) FROM impressions_gone) AS impressions,
    (SELECT count(*) FROM lists_gone) AS recommendation_lists,
    (SELECT count(*) FROM vectors_gone) AS user_vectors,
    (SELECT count(*) FROM users_gone) AS users
