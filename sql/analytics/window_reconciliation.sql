create or replace view analytics.window_reconciliation as
select
    window_id,
    consumer,
    run_key,
    interval_start,
    interval_end,
    opened_at,
    reconciled_at,
    arrived,
    valid,
    quarantined,
    duplicates,
    erased,
    arrived - (valid + quarantined + duplicates + erased) as missing,
    arrived = valid + quarantined + duplicates + erased as balanced,
    late,
    out_of_order
from public.windows;

comment on view analytics.window_reconciliation is
    'Where every row of every window went: arrived = valid + quarantined + duplicates + erased.';
comment on column analytics.window_reconciliation.missing is
    'rows that nobody accounts for, 0 when balanced; null until the window is reconciled';
comment on column analytics.window_reconciliation.window_id is 'order in which windows were opened';
comment on column analytics.window_reconciliation.consumer is 'the DAG that handles the window';
comment on column analytics.window_reconciliation.run_key is 'its run, the same for every retry';
comment on column analytics.window_reconciliation.interval_start is 'data interval of the run; null: a run by hand';
comment on column analytics.window_reconciliation.interval_end is 'exclusive; null: a run by hand';
comment on column analytics.window_reconciliation.opened_at is 'when its bounds were fixed';
comment on column analytics.window_reconciliation.reconciled_at is 'when its rows were counted last';
comment on column analytics.window_reconciliation.arrived is 'rows in the window when it was opened';
comment on column analytics.window_reconciliation.valid is 'rows in the feedback, also of months that are retired or dropped by now';
comment on column analytics.window_reconciliation.quarantined is 'rows in quarantine';
comment on column analytics.window_reconciliation.duplicates is 'rows in quarantine only because they are there twice';
comment on column analytics.window_reconciliation.erased is 'rows removed because their users asked to be forgotten';
comment on column analytics.window_reconciliation.balanced is 'whether arrived is the sum; null until reconciled';
comment on column analytics.window_reconciliation.late is
    'rows that happened before an earlier window of the consumer was closed; null until reconciled';
comment on column analytics.window_reconciliation.out_of_order is
    'rows that happened before another one that had arrived earlier in the window; null until reconciled';
