-- Keyed hashes of the users numbered :lower to :upper (exclusive); empty for one never met in a snapshot.
-- :lower, :upper
select coalesce(user_key, '')
from staged_users
where position >= :lower and position < :upper
order by position
