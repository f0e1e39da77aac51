-- Insert or update users. The last line of a user counts; values that it does not give stay unchanged.
-- Parameter: consent (of new users whose line does not give it).
WITH latest AS (
    SELECT DISTINCT ON (user_id) * FROM incoming_users ORDER BY user_id, ctid DESC
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
