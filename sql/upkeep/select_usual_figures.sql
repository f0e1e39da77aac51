-- Median of each figure without a label in the four weeks before a day, where it is known of a week's days or more.
-- Parameter: day.
select figure, percentile_cont(0.5) within group (order by value) as usual
from monitored_figures
where label = ''
    and day >= cast(:day as date) - 28
    and day < cast(:day as date)
group by figure
having count(*) >= 7
