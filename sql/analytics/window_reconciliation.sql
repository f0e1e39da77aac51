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
    arrived = valid + quarantined + duplicates + erased as balanced
from public.windows;

comment on view analytics.window_reconciliation is
    'Where every row of every window went: arrived = valid + quarantined + duplicates + erased.';
comment on column analytics.window_reconciliation.missing is
    'rows that nobody accounts for, 0 when balanced; null until the window is reconciled';
