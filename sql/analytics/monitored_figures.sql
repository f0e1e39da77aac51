create or replace view analytics.monitored_figures as
select day, figure, label, value
from public.monitored_figures;

comment on view analytics.monitored_figures is
    'What monitoring measures every day, for charts. A figure about fewer than five people is not measured.';
comment on column analytics.monitored_figures.day is 'UTC day of the run, which looks at the 24 hours before it';
comment on column analytics.monitored_figures.figure is
    'response_share: mean share of their slates that users answered; feedback_events: events; list_age_hours: since the '
    'lists of all users were published; open_alerts: causes that are found; listed_items: different items among the first '
    'ten of all lists; user_similarity: mean cosine of the vectors of two users';
comment on column analytics.monitored_figures.label is
    'placement of response_share (empty: not stated), event type of feedback_events, else empty';
comment on column analytics.monitored_figures.value is 'the figure';
