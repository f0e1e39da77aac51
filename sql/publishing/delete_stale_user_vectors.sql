-- Vectors of users who are gone; when everyone was scored, of all who were not.
-- :everyone
delete from user_vectors
where not exists (select from users where users.user_id = user_vectors.user_id)
    or (:everyone and not exists (select from staged_users where staged_users.user_id = user_vectors.user_id))
