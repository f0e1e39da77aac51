-- Delete lists of users who no longer exist and, after a publication for everyone, of users who were not scored.
-- Parameter :everyone.
delete from recommendation_lists as lists
where not exists (select from users where users.user_id = lists.user_id)
    or (:everyone and not exists (select from staged_users where staged_users.user_id = lists.user_id))
