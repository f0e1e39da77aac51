-- Those of the given user keys whose users may still be trained on. Each key is looked up through the index.
-- Parameter: user_keys (separated by commas).
SELECT users.user_key
FROM unnest(string_to_array(:user_keys, ',')) AS wanted (user_key)
CROSS JOIN LATERAL (
    SELECT user_key
    FROM user_eligibility
    WHERE user_eligibility.user_key = wanted.user_key AND may_train
    LIMIT 1
) AS users
