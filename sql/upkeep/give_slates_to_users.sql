-- Give slates that still name a visitor to the user who has joined the session. They were being written while somebody
-- logged in.
UPDATE impressions
SET user_id = visitors.joined_to
FROM users AS visitors
WHERE visitors.joined_to IS NOT NULL AND impressions.user_id = visitors.user_id
