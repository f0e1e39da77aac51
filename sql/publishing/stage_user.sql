-- Stage one user for recommendations on request.
-- Parameter :user_id.
insert into staged_users (position, user_id, user_key, consent, language)
select 0, users.user_id, users.user_key, users.consent, users.attributes ->> 'language'
from users
where users.user_id = :user_id
