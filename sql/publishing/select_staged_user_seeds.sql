-- What the lists of the users numbered :lower to :upper (exclusive) are drawn with; it names nobody.
-- :lower, :upper, :publication_seed
select hashtextextended(user_id, :publication_seed)
from staged_users
where position >= :lower and position < :upper
order by position
