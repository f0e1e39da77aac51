-- Feedback of a micro-update that only the table has: what the parent model has not trained on, and its context.
--   fresh    below the window's upper bound and not among what the parent has trained on
--   probe    the same of guard users: candidates are compared on it, none trains on it
--   history  the latest trained-on events of users who have fresh ones
-- What is replayed, and guard users' events, come from reservoirs beside the table (recsys/snapshot/replay.py).
-- Whoever reads the result leaves out rows of unknown items and types.
-- The parent has trained on: transaction_id < parent_transaction_id and occurred_at < parent_occurred_before.
-- Parameters: upper_transaction_id, parent_transaction_id, parent_occurred_before (all exclusive),
--   history_events (per user), guard_bound (0 to 2^32: the first eight hex digits of a guard user's key lie
--   below it), min_noisy_weight.
WITH eligible_users AS NOT MATERIALIZED (
    SELECT
        users.user_id,
        users.user_key,
        ('x' || left(users.user_key, 8))::bit(32)::bigint < :guard_bound AS is_guard
    FROM user_eligibility AS users
    WHERE users.may_train AND users.user_key IS NOT NULL
),

-- Two index ranges instead of one "or", which no index could answer.
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

-- In the order of the history's index, so that one user's pages are followed by the next one's.
affected_users AS MATERIALIZED (
    SELECT user_id, user_key, is_guard
    FROM eligible_users
    WHERE user_id IN (SELECT user_id FROM fresh)
    ORDER BY user_id
),

-- Everything but comments is in the index feedback_history, a user's events of a month side by side. Few rows
-- have a comment; those of a user are looked up in the table and joined user by user, so that nothing waits.
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
-- Of users whose noise was left in: the share of their feedback that is none, but never less than the floor.
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
