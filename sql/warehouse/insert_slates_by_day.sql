-- Count the valid slates of a range of UTC days, and the reactions to them: by model version, by position, and by rule. Five
-- people are MIN_PEOPLE in recsys.warehouse.analytics.
-- Parameters: first_day, last_day (both in the range; also -infinity and infinity).
WITH slates AS MATERIALIZED (
    SELECT
        (shown_at AT TIME ZONE 'UTC')::date AS day,
        impression_id,
        shown_at,
        user_id,
        hashtextextended(user_id, 0) AS person,
        coalesce(model_version, 'unknown') AS model_version,
        item_ids,
        propensities,
        rules
    FROM valid_impressions
    -- The last line is for slates of infinite times: a day after infinity is infinity.
    WHERE shown_at >= CAST(:first_day AS date)::timestamp AT TIME ZONE 'UTC'
        AND shown_at <= (CAST(:last_day AS date) + 1)::timestamp AT TIME ZONE 'UTC'
        AND (
            shown_at < (CAST(:last_day AS date) + 1)::timestamp AT TIME ZONE 'UTC'
            OR shown_at = CAST(:first_day AS date)::timestamp AT TIME ZONE 'UTC'
            OR CAST(:last_day AS date) = 'infinity'
        )
),

reactions AS (
    SELECT impression_id, user_id, item_id, bool_or(clicked) AS clicked, bool_or(converted) AS converted
    FROM (SELECT DISTINCT impression_id, user_id FROM slates) AS asked
    JOIN reactions_to_slates USING (impression_id, user_id)
    GROUP BY impression_id, user_id, item_id
),

shown AS (
    SELECT
        slates.day,
        slates.impression_id,
        slates.shown_at,
        slates.person,
        slates.model_version,
        entry.item_id,
        entry.position,
        entry.rules,
        slates.propensities IS NOT NULL AS logged,
        slates.propensities[entry.position] AS propensity,
        reactions.item_id IS NOT NULL AS reacted,
        reactions.clicked,
        reactions.converted
    FROM slates
    LEFT JOIN LATERAL (
        SELECT
            item_id,
            min(position)::integer AS position,
            array_agg(DISTINCT rule) FILTER (WHERE rule IS NOT NULL) AS rules
        FROM unnest(slates.item_ids, slates.rules) WITH ORDINALITY AS entry (item_id, rule, position)
        WHERE item_id IS NOT NULL
        GROUP BY item_id
    ) AS entry ON true
    LEFT JOIN reactions
        ON reactions.impression_id = slates.impression_id
        AND reactions.user_id = slates.user_id
        AND reactions.item_id = entry.item_id
),

answered AS (
    SELECT
        day,
        person,
        model_version,
        count(item_id) AS items,
        count(*) FILTER (WHERE reacted) AS reactions,
        count(*) FILTER (WHERE clicked) AS clicks,
        count(*) FILTER (WHERE converted) AS conversions
    FROM shown
    GROUP BY day, impression_id, shown_at, person, model_version
)

INSERT INTO slates_by_day (
    day, model_version, position, rule, slates, shown, reactions, clicks, conversions, clicked_slates,
    converted_slates, propensities, sum_of_propensities, people, reacting_people, clicking_people, converting_people,
    logged_people
)
SELECT
    day, model_version, NULL, NULL,
    count(*),
    sum(items),
    sum(reactions),
    sum(clicks),
    sum(conversions),
    count(*) FILTER (WHERE clicks > 0),
    count(*) FILTER (WHERE conversions > 0),
    NULL,
    NULL,
    (array_agg(DISTINCT person))[1:5],
    coalesce((array_agg(DISTINCT person) FILTER (WHERE reactions > 0))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE clicks > 0))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE conversions > 0))[1:5], '{}'),
    NULL
FROM answered
GROUP BY day, model_version
UNION ALL
SELECT
    day, model_version, position, NULL,
    count(*),
    count(*),
    count(*) FILTER (WHERE reacted),
    count(*) FILTER (WHERE clicked),
    count(*) FILTER (WHERE converted),
    NULL,
    NULL,
    count(propensity),
    coalesce(sum(propensity::double precision), 0),
    (array_agg(DISTINCT person))[1:5],
    coalesce((array_agg(DISTINCT person) FILTER (WHERE reacted))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE clicked))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE converted))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE logged))[1:5], '{}')
FROM shown
WHERE item_id IS NOT NULL
GROUP BY day, model_version, position
UNION ALL
SELECT
    day, NULL, NULL, rule,
    count(DISTINCT impression_id),
    count(*),
    count(*) FILTER (WHERE reacted),
    count(*) FILTER (WHERE clicked),
    count(*) FILTER (WHERE converted),
    NULL,
    NULL,
    NULL,
    NULL,
    (array_agg(DISTINCT person))[1:5],
    coalesce((array_agg(DISTINCT person) FILTER (WHERE reacted))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE clicked))[1:5], '{}'),
    coalesce((array_agg(DISTINCT person) FILTER (WHERE converted))[1:5], '{}'),
    NULL
FROM shown
CROSS JOIN LATERAL unnest(rules) AS rule
GROUP BY day, rule
