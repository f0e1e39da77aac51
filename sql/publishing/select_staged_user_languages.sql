-- Languages that the users numbered :lower to :upper (exclusive) ask for.
select language
from staged_users
where position >= :lower and position < :upper
order by position
