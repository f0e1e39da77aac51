-- Lists of users who are gone; when everyone was scored, of all who were not.
-- :everyone
delete from recommendation_lists as lists
where not exists (select from users where users.user_id = lists.user_id)
    or (:everyone and not exists (select from staged_users where staged_users.user_id = lists.user_id))
