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
    out_of_order,
    (
        select min(later.window_id)
        from public.windows as later
        join public.validation_results as finished
            on finished.window_id = later.window_id and finished.expectation = 'valid_share'
        where windows.arrived > 0
            and later.consumer = windows.consumer
            and later.window_id >= windows.window_id
            and not exists (
                select from public.validation_results as failed
                where failed.window_id = later.window_id and failed.severity = 'critical' and not failed.success
            )
    ) as validated_in_window_id,
    exists (
        select from public.validation_results as failed
        where failed.window_id = windows.window_id and failed.severity = 'critical' and not failed.success
    ) as validation_failed
from public.windows;

comment on view analytics.window_reconciliation is
    'Where the rows of every window are now: arrived = valid + quarantined + duplicates + erased.';
comment on column analytics.window_reconciliation.missing is
    'rows that are not accounted for, 0 if balanced; null until the window is reconciled';
comment on column analytics.window_reconciliation.window_id is 'increases with each window that is opened';
comment on column analytics.window_reconciliation.consumer is 'the DAG that handles the window';
comment on column analytics.window_reconciliation.run_key is 'the run that opened it, the same for every retry';
comment on column analytics.window_reconciliation.interval_start is
    'start of the run''s data interval; null for manual runs';
comment on column analytics.window_reconciliation.interval_end is
    'end of the run''s data interval, exclusive; null for manual runs';
comment on column analytics.window_reconciliation.opened_at is 'when its bounds were fixed';
comment on column analytics.window_reconciliation.reconciled_at is 'when its rows were last counted';
comment on column analytics.window_reconciliation.arrived is 'rows in the window when it was opened';
comment on column analytics.window_reconciliation.valid is 
    'rows in feedback, including months that are now retired or dropped';
comment on column analytics.window_reconciliation.quarantined is 'rows in quarantine';
comment on column analytics.window_reconciliation.duplicates is 'rows that are in quarantine only as duplicates';
comment on column analytics.window_reconciliation.erased is 'rows erased at their users'' request';
comment on column analytics.window_reconciliation.balanced is
    'whether the counts add up to arrived; null until reconciled';
comment on column analytics.window_reconciliation.late is
    'rows whose event happened before an earlier window of the consumer closed; null until reconciled';
comment on column analytics.window_reconciliation.out_of_order is
    'rows whose event happened before that of a row that arrived earlier in the window; null until reconciled';
comment on column analytics.window_reconciliation.validated_in_window_id is
    'the window whose validation passed and settled these rows: this one, or a later one of the consumer if this one '
    'failed; null: models may not read the rows yet, or none arrived';
comment on column analytics.window_reconciliation.validation_failed is
    'whether an expectation failed that stops the run';
