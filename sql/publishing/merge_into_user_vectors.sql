-- Insert or update the staged user vectors. Users of a challenger have none: item vectors are the champion's. Those of
-- interleaved lists are the champion's too.
-- Parameter :model_version.
insert into user_vectors (user_id, model_version, vector)
select users.user_id, :model_version, staged_user_vectors.vector
from staged_user_vectors
join staged_users using (position)
join staged_pools using (position)
join users using (user_id)
where users.joined_to is null and (staged_users.model_version is null or staged_pools.of_challenger is not null)
order by users.user_id
on conflict (user_id) do update set model_version = excluded.model_version, vector = excluded.vector
