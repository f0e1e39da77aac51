-- Keyed hashes of the users numbered :lower to :upper (exclusive), empty for users who are in no snapshot yet.
select coalesce(user_key, '')
from staged_users
where position >= :lower and position < :upper
order by position
