create or replace view analytics.experiment_days as
select
    experiments.name as experiment,
    looked.day,
    found.metric,
    found.role,
    found.control,
    found.challenger as challenger_value,
    found.difference,
    found.low,
    found.high,
    found.verdict
from public.experiments
join (
    select distinct on (experiment_id, day)
        readouts.experiment_id,
        (readouts.read_at at time zone 'UTC')::date as day,
        readouts.readings
    from public.experiment_readouts as readouts
    order by experiment_id, day, readouts.readout_id desc
) as looked on looked.experiment_id = experiments.experiment_id
cross join lateral jsonb_to_recordset(looked.readings) as found (
    metric text,
    role text,
    control double precision,
    challenger double precision,
    difference double precision,
    low double precision,
    high double precision,
    verdict text
);

comment on view analytics.experiment_days is
    'What the last look of each day found in experiments, one row for each metric, about all users until then. Figures that '
    'fewer than twenty people of an arm account for are null.';
comment on column analytics.experiment_days.experiment is 'its name';
comment on column analytics.experiment_days.day is 'UTC day of the look';
comment on column analytics.experiment_days.metric is
    'click_through, conversions, dislikes or slates; preference where lists are interleaved';
comment on column analytics.experiment_days.role is 'success: to be better; guardrail: not to be worse';
comment on column analytics.experiment_days.control is 'value among users of the champion; of a preference: share of the answers to items that it picked';
comment on column analytics.experiment_days.challenger_value is 'the same of the challenger';
comment on column analytics.experiment_days.difference is 'challenger minus control, adjusted for what users did before';
comment on column analytics.experiment_days.low is 'lower end of its interval, which holds at all looks; null: open';
comment on column analytics.experiment_days.high is 'upper end; null: open';
comment on column analytics.experiment_days.verdict is 'better, not_worse, worse or open';
