-- Store a figure of a day; a second run on the same day replaces it.
-- Parameters: day, figure, label, value.
insert into monitored_figures (day, figure, label, value)
values (:day, :figure, :label, :value)
on conflict (day, figure, label) do update set value = excluded.value
