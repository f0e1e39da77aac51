-- Delete a user's rows from every table and record how many came from each transaction, so that past windows still
-- reconcile. Average comment sentiments and phrases of items that the user commented on contain the user's part and are
-- deleted too, and with phrases and lists the summaries of them. The next publication for everyone and the next housekeeping make them again from the other users' comments.
-- The request notes the first transaction whose feedback is erased: model versions that trained beyond it may know the
-- user. Where retired months were dropped, nobody can say which user's they were, so all versions may.
-- Parameters: request_id, user_id.
WITH feedback_gone AS (
    DELETE FROM feedback WHERE user_id = :user_id
    RETURNING transaction_id, CASE WHEN comment IS NOT NULL THEN item_id END AS commented_item
),
retired_gone AS (
    DELETE FROM retired.feedback WHERE user_id = :user_id
    RETURNING transaction_id, CASE WHEN comment IS NOT NULL THEN item_id END AS commented_item
),
commented AS (
    SELECT commented_item FROM feedback_gone UNION ALL SELECT commented_item FROM retired_gone
),
sentiment_gone AS (
    DELETE FROM comment_sentiment WHERE item_id IN (SELECT commented_item FROM commented) RETURNING 1
),
phrases_gone AS (
    DELETE FROM item_phrases WHERE item_id IN (SELECT commented_item FROM commented) RETURNING 1
),
quarantine_gone AS (
    DELETE FROM quarantine WHERE user_id = :user_id RETURNING transaction_id
),
held_impressions_gone AS (
    DELETE FROM quarantined_impressions AS held USING impressions
    WHERE impressions.user_id = :user_id
        AND (held.impression_id, held.shown_at) = (impressions.impression_id, impressions.shown_at)
),
impressions_gone AS (
    DELETE FROM impressions WHERE user_id = :user_id RETURNING (shown_at AT TIME ZONE 'UTC')::date AS day
),
-- They hold hashes of people. The next refresh counts these days anew.
days_gone AS (
    DELETE FROM slates_by_day WHERE day IN (SELECT day FROM impressions_gone)
),
counts_gone AS (
    DELETE FROM feedback_by_user WHERE user_id = :user_id
),
lists_gone AS (
    DELETE FROM recommendation_lists WHERE user_id = :user_id RETURNING 1
),
interleaved_gone AS (
    DELETE FROM interleaved_lists WHERE user_id = :user_id
),
vectors_gone AS (
    DELETE FROM user_vectors WHERE user_id = :user_id RETURNING 1
),
users_gone AS (
    DELETE FROM users WHERE user_id = :user_id RETURNING 1
),
-- What shards of a publication have staged for the user. The place stays, so that no other user moves.
staged AS (
    UPDATE staging.staged_users SET user_id = NULL WHERE user_id = :user_id RETURNING plan_id, position
),
staged_lists_gone AS (
    DELETE FROM staging.staged_lists AS lists USING staged
    WHERE lists.plan_id = staged.plan_id AND lists.position = staged.position
),
staged_pools_gone AS (
    DELETE FROM staging.staged_pools AS pools USING staged
    WHERE pools.plan_id = staged.plan_id AND pools.position = staged.position
),
staged_vectors_gone AS (
    DELETE FROM staging.staged_user_vectors AS vectors USING staged
    WHERE vectors.plan_id = staged.plan_id AND vectors.position = staged.position
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
),
noted AS (
    UPDATE erasure_requests
    SET first_transaction_id = least(
        first_transaction_id,
        (
            SELECT min(transaction_id)
            FROM (
                SELECT transaction_id FROM feedback_gone UNION ALL SELECT transaction_id FROM retired_gone
            ) AS learned
        ),
        CASE WHEN EXISTS (SELECT FROM users_gone) AND EXISTS (SELECT FROM dropped_feedback) THEN 0 END
    )
    WHERE request_id = :request_id
)
SELECT
    (SELECT count(*) FROM feedback_gone) AS feedback,
    (SELECT count(*) FROM retired_gone) AS retired_feedback,
    (SELECT count(*) FROM quarantine_gone) AS quarantine,
    (SELECT count(*) FROM impressions_gone) AS impressions,
    (SELECT count(*) FROM lists_gone) AS recommendation_lists,
    (SELECT count(*) FROM vectors_gone) AS user_vectors,
    (SELECT count(*) FROM sentiment_gone) AS comment_sentiment,
    (SELECT count(*) FROM phrases_gone) AS item_phrases,
    (SELECT count(*) FROM users_gone) AS users
