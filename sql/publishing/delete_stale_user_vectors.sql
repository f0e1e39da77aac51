-- Delete vectors of users who no longer exist or get a challenger's list and, after a publication for everyone, of users
-- who were not scored.
-- Parameter :everyone.
delete from user_vectors
where not exists (select from users where users.user_id = user_vectors.user_id)
    or exists (
        select from staged_users
        join staged_pools using (position)
        where staged_users.user_id = user_vectors.user_id
            and staged_users.model_version is not null
            and staged_pools.of_challenger is null
    )
    or (:everyone and not exists (select from staged_users where staged_users.user_id = user_vectors.user_id))
