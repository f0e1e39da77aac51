-- Delete vectors of users who no longer exist and, after a publication for everyone, of users who were not scored.
-- Parameter :everyone.
delete from user_vectors
where not exists (select from users where users.user_id = user_vectors.user_id)
    or (:everyone and not exists (select from staged_users where staged_users.user_id = user_vectors.user_id))
