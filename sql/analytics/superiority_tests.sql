create or replace view analytics.superiority_tests as
select
    month,
    tested_at,
    kind,
    model_version,
    champion_version,
    p_value,
    level,
    shown,
    sum(level) filter (where not shown) over (partition by month order by tested_at, run_key)::double precision
        as spent
from public.superiority_tests;

comment on view analytics.superiority_tests is
    'Every test whether a candidate is better than the champion. The tests of a month share one probability of error '
    '(gate.monthly_error): what a test spends is gone unless it shows its candidate better.';
comment on column analytics.superiority_tests.month is 'first day of the month, UTC';
comment on column analytics.superiority_tests.tested_at is 'when the gate made the test';
comment on column analytics.superiority_tests.kind is 'full: nightly, micro: hourly';
comment on column analytics.superiority_tests.model_version is 'the candidate';
comment on column analytics.superiority_tests.champion_version is 'the champion that it was compared with';
comment on column analytics.superiority_tests.p_value is 'one-sided p-value of the gain in NDCG';
comment on column analytics.superiority_tests.level is 'largest p-value that shows a gain';
comment on column analytics.superiority_tests.shown is 'whether the candidate was shown to be better';
comment on column analytics.superiority_tests.spent is 'of the month''s probability of error, up to this test';
