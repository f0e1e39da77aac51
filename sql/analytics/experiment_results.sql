create or replace view analytics.experiment_results as
select
    experiments.name as experiment,
    experiments.challenger,
    experiments.champion,
    experiments.challenger_share,
    experiments.hold_out_share,
    experiments.shown_since,
    experiments.ended_at,
    coalesce(experiments.outcome, 'running') as outcome,
    looked.read_at,
    least(looked.share, 1) as time_share,
    case when looked.control_users not between 1 and 4 then looked.control_users end as control_users,
    case when looked.challenger_users not between 1 and 4 then looked.challenger_users end as challenger_users,
    found.metric,
    found.role,
    found.margin,
    found.control,
    found.challenger as challenger_value,
    found.hold_out,
    found.difference,
    found.low,
    found.high,
    found.verdict
from public.experiments
left join lateral (
    select
        readouts.read_at,
        readouts.share,
        (readouts.users ->> 'control')::bigint as control_users,
        (readouts.users ->> 'challenger')::bigint as challenger_users,
        readouts.readings
    from public.experiment_readouts as readouts
    where readouts.experiment_id = experiments.experiment_id
    order by readouts.readout_id desc
    limit 1
) as looked on true
left join lateral jsonb_to_recordset(looked.readings) as found (
    metric text,
    role text,
    margin double precision,
    control double precision,
    challenger double precision,
    hold_out double precision,
    difference double precision,
    low double precision,
    high double precision,
    verdict text
) on true;

comment on view analytics.experiment_results is
    'Experiments with what the newest look at each found, one row for each metric. Figures that fewer than twenty people '
    'of an arm account for are null. docs/experiments.md says what error rates hold.';
comment on column analytics.experiment_results.experiment is 'its name';
comment on column analytics.experiment_results.challenger is 'version that some users get';
comment on column analytics.experiment_results.champion is 'champion at the start; others get whichever is champion';
comment on column analytics.experiment_results.challenger_share is 'share of users who get the challenger''s lists';
comment on column analytics.experiment_results.hold_out_share is
    'share of users who get only what is trending and popular';
comment on column analytics.experiment_results.shown_since is 'slates from then on count; null: not published yet';
comment on column analytics.experiment_results.ended_at is 'null: it is running';
comment on column analytics.experiment_results.outcome is 'running, or why it ended';
comment on column analytics.experiment_results.read_at is 'time of the newest look';
comment on column analytics.experiment_results.time_share is 'share of the planned time that had passed';
comment on column analytics.experiment_results.control_users is 'users of the champion who saw a slate';
comment on column analytics.experiment_results.challenger_users is 'users of the challenger who saw a slate';
comment on column analytics.experiment_results.metric is
    'click_through, conversions, dislikes or slates; preference where lists are interleaved';
comment on column analytics.experiment_results.role is 'success: to be better; guardrail: not to be worse';
comment on column analytics.experiment_results.margin is 'largest loss to exclude, a share of the control''s value';
comment on column analytics.experiment_results.control is 'value among users of the champion; of a preference: share of the answers to items that it picked';
comment on column analytics.experiment_results.challenger_value is 'the same of the challenger';
comment on column analytics.experiment_results.hold_out is 'value among users of the hold-out';
comment on column analytics.experiment_results.difference is
    'challenger minus control, adjusted for what users did before';
comment on column analytics.experiment_results.low is 'lower end of its interval, which holds at all looks; null: open';
comment on column analytics.experiment_results.high is 'upper end; null: open';
comment on column analytics.experiment_results.verdict is 'better, not_worse, worse or open';
