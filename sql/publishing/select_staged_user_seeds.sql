-- Random seeds of the lists of the users numbered :lower to :upper (exclusive). A seed does not identify its user.
-- Parameter :publication_seed.
select hashtextextended(user_id, :publication_seed)
from staged_users
where position >= :lower and position < :upper
order by position
