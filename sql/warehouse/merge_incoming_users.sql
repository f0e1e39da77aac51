-- Insert or update users. Of several lines of a user the last that gives a value counts, and values that none gives
-- stay unchanged.
-- Parameter: consent (of new users whose line does not give it).
WITH latest AS (
    SELECT
        user_id,
        (array_agg(consent ORDER BY ctid DESC) FILTER (WHERE consent IS NOT NULL))[1] AS consent,
        (array_agg(attributes ORDER BY ctid DESC) FILTER (WHERE attributes IS NOT NULL))[1] AS attributes
    FROM incoming_users
    GROUP BY user_id
),
updated AS (
    UPDATE users
    SET consent = coalesce(latest.consent, users.consent),
        attributes = coalesce(latest.attributes, users.attributes)
    FROM latest
    WHERE users.user_id = latest.user_id
      AND (users.consent, users.attributes) IS DISTINCT FROM (
          coalesce(latest.consent, users.consent), coalesce(latest.attributes, users.attributes)
      )
    RETURNING 1
),
inserted AS (
    INSERT INTO users (user_id, consent, attributes)
    SELECT user_id, coalesce(consent, :consent), coalesce(attributes, '{}')
    FROM latest
    ORDER BY user_id
    ON CONFLICT (user_id) DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM inserted), (SELECT count(*) FROM updated)
