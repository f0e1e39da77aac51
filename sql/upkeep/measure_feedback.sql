-- Feedback that happened in the day before :until, by type. Types with feedback of fewer than :people people are left out.
-- Parameters: until, people.
select event_type, count(*) as events
from feedback
where occurred_at >= cast(:until as timestamptz) - interval '1 day'
    and occurred_at < cast(:until as timestamptz)
group by event_type
having count(distinct user_id) >= :people
order by event_type
