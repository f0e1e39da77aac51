-- Feedback for a micro-update that only the table has: what the parent model has not trained on, and its context.
--   fresh    events below the window's upper bound that the parent has not trained on
--   probe    the same events of guard users: candidates are compared on them, and no model trains on them
--   history  the latest events that the parent has trained on, of users who have fresh events
-- Replayed events and earlier events of guard users come from reservoirs (recsys/snapshot/replay.py). The reader drops
-- rows of unknown items and types.
-- The parent has trained on: transaction_id < parent_transaction_id and occurred_at < parent_occurred_before.
-- Parameters: upper_transaction_id, parent_transaction_id, parent_occurred_before (all exclusive),
--   history_events (per user), guard_bound (0 to 2^32: a user is a guard user if the first eight hex digits of the key
--   are below it), min_noisy_weight.
WITH eligible_users AS NOT MATERIALIZED (
    SELECT
        users.user_id,
        users.user_key,
        ('x' || left(users.user_key, 8))::bit(32)::bigint < :guard_bound AS is_guard
    FROM user_eligibility AS users
    WHERE users.may_train AND users.user_key IS NOT NULL
),

-- Two index ranges, because no index could answer one "or".
fresh AS MATERIALIZED (
    SELECT feedback.*
    FROM feedback
    WHERE feedback.transaction_id >= :parent_transaction_id
        AND feedback.transaction_id < :upper_transaction_id
        AND isfinite(feedback.occurred_at)
    UNION ALL
    SELECT feedback.*
    FROM feedback
    WHERE feedback.transaction_id < least(:parent_transaction_id, :upper_transaction_id)
        AND feedback.occurred_at >= :parent_occurred_before
        AND feedback.occurred_at < 'infinity'
),

-- Sorted like the index feedback_history, so that its pages are read in order.
affected_users AS MATERIALIZED (
    SELECT user_id, user_key, is_guard
    FROM eligible_users
    WHERE user_id IN (SELECT user_id FROM fresh)
    ORDER BY user_id
),

-- The index feedback_history has everything except comments, with a user's events of a month side by side. Few rows
-- have a comment: they are looked up in the table and joined user by user, so that the query streams.
latest AS (
    SELECT latest.*, affected_users.user_id, affected_users.user_key
    FROM affected_users
    CROSS JOIN LATERAL (
        SELECT known.*, commented.comment
        FROM (
            SELECT feedback_id, item_id, event_type, value, occurred_at
            FROM feedback
            WHERE feedback.user_id = affected_users.user_id
                AND feedback.transaction_id < :parent_transaction_id
                AND feedback.occurred_at < :parent_occurred_before
                AND feedback.occurred_at > '-infinity'
            ORDER BY feedback.occurred_at DESC, feedback.feedback_id DESC
            LIMIT :history_events
        ) AS known
        LEFT JOIN (
            SELECT feedback_id, comment
            FROM feedback
            WHERE feedback.user_id = affected_users.user_id
                AND feedback.comment IS NOT NULL
                AND feedback.transaction_id < :parent_transaction_id
                AND feedback.occurred_at < :parent_occurred_before
                AND feedback.occurred_at > '-infinity'
            ORDER BY feedback.occurred_at DESC, feedback.feedback_id DESC
            LIMIT :history_events
        ) AS commented ON commented.feedback_id = known.feedback_id
    ) AS latest
),

events AS (
    SELECT
        fresh.feedback_id,
        fresh.user_id,
        fresh.item_id,
        fresh.event_type,
        fresh.value,
        fresh.comment,
        fresh.occurred_at,
        affected_users.user_key,
        CASE WHEN affected_users.is_guard THEN 'probe' ELSE 'fresh' END AS purpose
    FROM fresh
    JOIN affected_users ON affected_users.user_id = fresh.user_id
    UNION ALL
    SELECT
        latest.feedback_id,
        latest.user_id,
        latest.item_id,
        latest.event_type,
        latest.value,
        latest.comment,
        latest.occurred_at,
        latest.user_key,
        'history'
    FROM latest
)

SELECT
    events.feedback_id,
    events.user_key,
    events.item_id,
    events.event_type,
    events.value,
    events.comment,
    -- The years that the reader of CSV knows; validation has checked nearly all rows by now.
    least(greatest(events.occurred_at, '0001-01-01 UTC'), '9999-12-31 UTC') AS occurred_at,
    coalesce(noise.weight, 1)::real AS weight,
    events.purpose
FROM events
-- If noise of a user was kept: the share of the user's feedback that is not noise, but at least min_noisy_weight.
LEFT JOIN (
    SELECT noisy.user_id, greatest(:min_noisy_weight, 1 - noisy.rows / given.rows) AS weight
    FROM (
        SELECT user_id, count(*)::double precision AS rows
        FROM noisy_feedback
        WHERE transaction_id < :upper_transaction_id
        GROUP BY user_id
    ) AS noisy
    CROSS JOIN LATERAL (
        SELECT greatest(count(*), 1) AS rows
        FROM feedback
        WHERE feedback.user_id = noisy.user_id AND feedback.transaction_id < :upper_transaction_id
    ) AS given
) AS noise ON noise.user_id = events.user_id
