-- What: Feedback of users in their first :newcomer_days days who push an item, or push it down, together.
-- Why: Accounts made for that teach the model to show the item; docs/validation.md says how they are found.
-- Reason: pushed_by_newcomers
-- Scan: own
-- Noise: yes
-- Earlier: yes
-- A stretch is some people who reacted to an item one after another, nearly all of them newcomers with the same reaction.
-- It is a push if that is unlikely by the share of such newcomers in the window's other feedback and in what came before
-- on the item, and if it is also unlikely that so many came so fast. Both are Chernoff bounds of a binomial tail, as
-- negative logarithms, and their sum is the evidence.
WITH taken_out AS MATERIALIZED (
    -- Rows that this rule moved to quarantine still count: a campaign does not begin anew with each window.
    SELECT original.*
    FROM quarantine
    CROSS JOIN LATERAL jsonb_populate_record(NULL::feedback, quarantine.feedback) AS original
    WHERE 'pushed_by_newcomers' = ANY (quarantine.reasons)
        AND quarantine.status <> 'released'
        AND quarantine.transaction_id < :upper_transaction_id
        AND original.occurred_at >= '1990-01-01Z'
        AND original.occurred_at <= original.received_at + make_interval(mins => :future_tolerance_minutes)
),

-- A user's reaction is the value of the opinion; without a value it is -1 (a dislike) or 0.
meanings AS MATERIALIZED (
    SELECT
        event_type,
        explicit AND min_value IS NOT NULL AS has_value,
        least(polarity, 0)::double precision AS without_value
    FROM event_types
),

follows AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM feedback WHERE transaction_id < :lower_transaction_id) AS another_window
),

seen AS NOT MATERIALIZED (
    SELECT user_id, item_id, event_type, value, occurred_at, released_from
    FROM feedback
    WHERE transaction_id >= :lower_transaction_id
        AND transaction_id < :upper_transaction_id
        AND occurred_at BETWEEN '1990-01-01Z' AND received_at + make_interval(mins => :future_tolerance_minutes)
    UNION ALL
    SELECT user_id, item_id, event_type, value, occurred_at, released_from
    FROM taken_out
    WHERE transaction_id >= :lower_transaction_id
),

-- Aggregating the table by itself, and not together with what was taken out, is done in parallel.
first_in_window AS MATERIALIZED (
    SELECT user_id, min(occurred_at) AS occurred_at
    FROM (
        SELECT user_id, min(occurred_at) AS occurred_at
        FROM feedback
        WHERE transaction_id >= :lower_transaction_id
            AND transaction_id < :upper_transaction_id
            AND occurred_at BETWEEN '1990-01-01Z' AND received_at + make_interval(mins => :future_tolerance_minutes)
        GROUP BY user_id
        UNION ALL
        SELECT user_id, occurred_at FROM taken_out
    ) AS firsts
    GROUP BY user_id
),

-- When the first days of each user end.
first_days AS MATERIALIZED (
    SELECT
        user_id,
        make_interval(days => :newcomer_days) + least(
            first_in_window.occurred_at,
            CASE WHEN (SELECT another_window FROM follows) THEN (
                SELECT occurred_at
                FROM feedback
                WHERE feedback.user_id = first_in_window.user_id
                    AND occurred_at >= '1990-01-01Z'
                    AND transaction_id < :lower_transaction_id
                ORDER BY occurred_at
                LIMIT 1
            ) END
        ) AS until
    FROM first_in_window
),

of_newcomers AS MATERIALIZED (
    SELECT
        seen.item_id,
        seen.user_id,
        seen.occurred_at,
        CASE WHEN has_value THEN value ELSE without_value END AS reaction
    FROM seen
    JOIN meanings ON meanings.event_type = seen.event_type
    JOIN first_days ON first_days.user_id = seen.user_id
    WHERE seen.occurred_at < first_days.until AND seen.released_from IS NULL
),

items_of_newcomers AS MATERIALIZED (
    SELECT item_id, min(occurred_at) AS since
    FROM of_newcomers
    GROUP BY item_id
    -- Some of the five may have reacted before the window.
    HAVING count(DISTINCT user_id) >= 5 OR (SELECT another_window FROM follows)
),

-- The window's feedback by time: its rows before each of 10,000 moments are the measure of how fast reactions come.
span AS MATERIALIZED (
    SELECT
        extract(epoch FROM min(first_at))::double precision AS began,
        greatest(extract(epoch FROM max(last_at) - min(first_at))::double precision, 1) / 10000 AS step,
        min(first_id) AS first_id,
        coalesce(
            (
                SELECT feedback_id
                FROM feedback
                WHERE occurred_at > min(parts.first_at) - interval '90 days'
                    AND occurred_at < 'infinity'
                    AND transaction_id < :lower_transaction_id
                ORDER BY occurred_at
                LIMIT 1
            ) - min(first_id),
            0
        )::double precision AS start
    FROM (
        SELECT min(occurred_at) AS first_at, max(occurred_at) AS last_at, min(feedback_id) AS first_id
        FROM feedback
        WHERE transaction_id >= :lower_transaction_id
            AND transaction_id < :upper_transaction_id
            AND occurred_at BETWEEN '1990-01-01Z' AND received_at + make_interval(mins => :future_tolerance_minutes)
        UNION ALL
        SELECT min(occurred_at), max(occurred_at), min(feedback_id)
        FROM taken_out
        WHERE transaction_id >= :lower_transaction_id
    ) AS parts
),

moments AS MATERIALIZED (
    SELECT moment, sum(rows) AS rows, sum(sum(rows)) OVER (ORDER BY moment) - sum(rows) AS rows_before
    FROM (
        SELECT
            floor((extract(epoch FROM occurred_at)::double precision - (SELECT began FROM span)) / (SELECT step FROM span))
                AS moment,
            count(*)::double precision AS rows
        FROM feedback
        WHERE transaction_id >= :lower_transaction_id
            AND transaction_id < :upper_transaction_id
            AND occurred_at BETWEEN '1990-01-01Z' AND received_at + make_interval(mins => :future_tolerance_minutes)
        GROUP BY 1
        UNION ALL
        SELECT
            floor((extract(epoch FROM occurred_at)::double precision - (SELECT began FROM span)) / (SELECT step FROM span)),
            1
        FROM taken_out
        WHERE transaction_id >= :lower_transaction_id
    ) AS counted
    GROUP BY moment
),

in_window AS (
    SELECT
        seen.item_id,
        seen.user_id,
        CASE WHEN has_value THEN value ELSE without_value END AS reaction,
        seen.occurred_at < first_days.until AND seen.released_from IS NULL AS is_newcomer,
        (extract(epoch FROM seen.occurred_at)::double precision - (SELECT began FROM span)) / (SELECT step FROM span)
            AS moment
    FROM seen
    JOIN items_of_newcomers ON items_of_newcomers.item_id = seen.item_id
    JOIN meanings ON meanings.event_type = seen.event_type
    JOIN first_days ON first_days.user_id = seen.user_id
),

-- Of what came before the window on an item only the latest is read, so that popular items do not cost more.
before_window AS MATERIALIZED (
    SELECT
        latest.item_id,
        latest.user_id,
        CASE WHEN has_value THEN value ELSE without_value END AS reaction,
        latest.released_from IS NULL AND NOT EXISTS (
            SELECT FROM feedback AS older
            WHERE older.user_id = latest.user_id
                AND older.occurred_at >= '1990-01-01Z'
                AND older.occurred_at <= latest.occurred_at - make_interval(days => :newcomer_days)
        ) AS is_newcomer,
        (latest.feedback_id - (SELECT first_id FROM span))::double precision AS place
    FROM items_of_newcomers AS wanted
    CROSS JOIN LATERAL (
        (
            SELECT feedback_id, user_id, item_id, event_type, value, occurred_at, released_from
            FROM feedback
            WHERE feedback.item_id = wanted.item_id
                AND occurred_at > wanted.since - interval '90 days'
                AND occurred_at < 'infinity'
                AND transaction_id < :lower_transaction_id
            ORDER BY occurred_at DESC
            LIMIT 100
        )
        UNION ALL
        SELECT feedback_id, user_id, item_id, event_type, value, occurred_at, released_from
        FROM taken_out
        WHERE taken_out.item_id = wanted.item_id
            AND occurred_at > wanted.since - interval '90 days'
            AND transaction_id < :lower_transaction_id
    ) AS latest
    JOIN meanings ON meanings.event_type = latest.event_type
    WHERE (SELECT another_window FROM follows)
),

people AS (
    SELECT item_id, user_id, min(place) AS place, max(reaction) AS reaction, bool_and(is_newcomer) AS is_newcomer
    FROM (
        SELECT
            item_id, user_id, reaction, is_newcomer,
            rows_before + rows * (in_window.moment - moments.moment) AS place
        FROM in_window
        JOIN moments ON moments.moment = floor(in_window.moment)
        UNION ALL
        SELECT item_id, user_id, reaction, is_newcomer, place FROM before_window
    ) AS known
    GROUP BY item_id, user_id
),

-- How much the window has of each newcomer, and with each reaction.
activity AS MATERIALIZED (
    SELECT user_id, reaction, count(*) AS alike_rows, sum(count(*)) OVER (PARTITION BY user_id) AS rows
    FROM of_newcomers
    GROUP BY user_id, reaction
),

newcomers AS MATERIALIZED (
    SELECT
        numbered.*,
        row_number() OVER same AS kth,
        row_number() OVER same / 50 AS block,
        lag(nth, 4) OVER same AS nth_of_fifth_last,
        coalesce(alike_rows, 0) AS alike_rows,
        sum(coalesce(alike_rows, 0)) OVER same AS alike_rows_until,
        coalesce(rows, 0) AS rows,
        sum(coalesce(rows, 0)) OVER same AS rows_until
    FROM (
        SELECT
            *,
            row_number() OVER of_item AS nth,
            -- If there are more people than were read, what is known of the item begins with the first of them.
            CASE WHEN count(*) FILTER (WHERE place < 0) OVER (PARTITION BY item_id) < 100
                THEN least((SELECT start FROM span), first_value(place) OVER of_item)
                ELSE first_value(place) OVER of_item
            END AS first_place
        FROM people
        WINDOW of_item AS (PARTITION BY item_id ORDER BY place, user_id)
    ) AS numbered
    LEFT JOIN activity ON activity.user_id = numbered.user_id AND activity.reaction = numbered.reaction
    WHERE is_newcomer
    WINDOW same AS (PARTITION BY item_id, numbered.reaction ORDER BY nth)
),

-- Each newcomer with the blocks of 50 in which a stretch that ends with them may begin, so that an item with a million
-- newcomers costs in proportion to them.
ends AS MATERIALIZED (
    SELECT newcomers.*, newcomers.block - back.blocks AS first_block
    FROM newcomers
    CROSS JOIN (VALUES (0), (1)) AS back (blocks)
    WHERE newcomers.nth - newcomers.nth_of_fifth_last < 6
),

-- At most 50 people of whom at least four in five are such newcomers, five of them or more. At the end of a stretch
-- with that share there are five among six people; few items have that.
stretches AS (
    SELECT
        latest.item_id,
        latest.reaction,
        earliest.kth AS from_kth,
        latest.kth AS to_kth,
        latest.kth - earliest.kth + 1 AS alike,
        latest.nth - earliest.nth + 1 AS people,
        earliest.kth - 1 AS alike_before,
        earliest.nth - 1 AS people_before,
        latest.place - earliest.place + 1 AS lasted,
        latest.alike_rows_until - earliest.alike_rows_until + earliest.alike_rows AS alike_rows,
        latest.rows_until - earliest.rows_until + earliest.rows AS rows,
        earliest.place - earliest.first_place AS lasted_before
    FROM ends AS latest
    JOIN newcomers AS earliest
        ON earliest.item_id = latest.item_id
        AND earliest.reaction = latest.reaction
        AND earliest.block = latest.first_block
        AND earliest.kth BETWEEN latest.kth - 49 AND latest.kth - 4
    WHERE latest.nth - earliest.nth < 50
        AND latest.kth - earliest.kth + 1 >= 0.8 * (latest.nth - earliest.nth + 1)
),

-- How much of other feedback is a newcomer's with this reaction: in the window, and before it on the window's items.
usual AS MATERIALIZED (
    SELECT
        in_window.reaction,
        in_window.alike_rows,
        (SELECT sum(rows) FROM moments) AS rows,
        coalesce(earlier.share, 0) AS share_before
    FROM (SELECT reaction, sum(alike_rows) AS alike_rows FROM activity GROUP BY reaction) AS in_window
    LEFT JOIN (
        SELECT reaction, count(*) FILTER (WHERE is_newcomer)::double precision / sum(count(*)) OVER () AS share
        FROM before_window
        GROUP BY reaction
    ) AS earlier ON earlier.reaction = in_window.reaction
),

pushes AS MATERIALIZED (
    SELECT stretches.item_id, stretches.reaction, from_kth, to_kth, by_share + by_speed AS evidence
    FROM stretches
    JOIN usual ON usual.reaction = stretches.reaction
    CROSS JOIN LATERAL (
        -- Without what these people themselves did in the window: cover must not make them look usual. A small window
        -- says little, so that 500 rows from before are added to it.
        SELECT
            greatest(
                share_before,
                (usual.alike_rows - stretches.alike_rows + 500 * share_before + 1)
                / (usual.rows - stretches.rows + CASE WHEN share_before > 0 THEN 500 ELSE 0 END + 2)
            ) AS share,
            greatest(lasted - stretches.rows, alike) AS others_lasted
    ) AS others
    CROSS JOIN LATERAL (
        SELECT
            greatest(share, (alike_before + 5 * share) / (people_before + 5)) AS expected_share,
            others_lasted / (others_lasted + greatest(lasted_before, 1)) AS share_of_time,
            alike + alike_before + 1 AS alike_ever
    ) AS compared
    CROSS JOIN LATERAL (
        SELECT
            alike * ln(alike / (people * expected_share))
            + CASE WHEN people > alike
                THEN (people - alike) * ln((people - alike) / (people * (1 - expected_share))) ELSE 0 END
                AS by_share,
            alike * ln(alike / (alike_ever * share_of_time))
            + (alike_ever - alike) * ln((alike_ever - alike) / (alike_ever * (1 - share_of_time)))
                AS by_speed
    ) AS evidences
    WHERE alike > people * expected_share
        AND alike > alike_ever * share_of_time
        AND by_share + by_speed >= :push_evidence
        -- Neither says enough alone: fans come fast, and a good film gets many of the highest ratings.
        AND least(by_share, by_speed) >= :push_evidence / 3
),

-- The accounts also meet on items that they only use as cover, together with honest newcomers. Most of those who meet
-- there meet with more evidence elsewhere: on the item that they push.
meetings AS MATERIALIZED (
    SELECT pushes.item_id, pushes.reaction, newcomers.user_id, max(pushes.evidence) AS evidence
    FROM (
        SELECT pushes.*, to_kth / 50 - blocks AS block FROM pushes CROSS JOIN (VALUES (0), (1)) AS back (blocks)
        OFFSET 0
    ) AS pushes
    JOIN newcomers
        ON newcomers.item_id = pushes.item_id
        AND newcomers.reaction = pushes.reaction
        AND newcomers.block = pushes.block
        AND newcomers.kth BETWEEN pushes.from_kth AND pushes.to_kth
    GROUP BY pushes.item_id, pushes.reaction, newcomers.user_id
),

-- An honest newcomer who reacted to one such item as they did was there by chance: they meet on many.
who_pushed AS (
    SELECT
        item_id,
        reaction,
        user_id,
        2 * sum(is_strongest::int) OVER (PARTITION BY item_id, reaction)
        >= count(*) OVER (PARTITION BY item_id, reaction)
        AND 4 * times >= avg(times) OVER (PARTITION BY item_id, reaction)
            AS is_pushed
    FROM (
        SELECT
            *,
            row_number() OVER (PARTITION BY user_id ORDER BY evidence DESC, item_id, reaction) = 1 AS is_strongest,
            count(*) OVER (PARTITION BY user_id) AS times
        FROM meetings
    ) AS ranked
),

pushers AS MATERIALIZED (
    SELECT user_id FROM who_pushed WHERE is_pushed
    UNION
    SELECT taken_out.user_id FROM taken_out JOIN of_newcomers ON of_newcomers.user_id = taken_out.user_id
)

-- All that these accounts did in their first days, also before the window.
SELECT
    theirs.feedback_id,
    'pushed_by_newcomers' AS reason,
    CASE WHEN theirs.transaction_id < :lower_transaction_id THEN theirs.transaction_id END AS earlier_transaction_id
FROM pushers
CROSS JOIN LATERAL (
    SELECT feedback_id, transaction_id, released_from, occurred_at, min(occurred_at) OVER () AS first_at
    FROM feedback
    WHERE feedback.user_id = pushers.user_id
        AND transaction_id < :upper_transaction_id
        AND occurred_at BETWEEN '1990-01-01Z' AND received_at + make_interval(mins => :future_tolerance_minutes)
) AS theirs
WHERE theirs.released_from IS NULL
    AND theirs.occurred_at < theirs.first_at + make_interval(days => :newcomer_days)
