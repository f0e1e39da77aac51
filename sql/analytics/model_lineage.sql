create or replace view analytics.model_lineage as
select distinct on (ledger.model_version)
    ledger.model_version,
    snapshot.kind,
    opponent.model_version as compared_with,
    case when snapshot.kind = 'micro' then opponent.model_version end as parent,
    ledger.decided_at,
    ledger.action,
    ledger.reason,
    ledger.run_key,
    windows.window_id,
    windows.upper_transaction_id as knows_below_transaction_id,
    snapshot.rows as snapshot_rows,
    snapshot.digest as snapshot_digest,
    (
        select count(*) from public.promotion_ledger as reigns
        where reigns.model_version = ledger.model_version and reigns.champion_sequence is not null
    ) as times_champion,
    (
        select min(published_at) from public.publications
        where publications.model_version = ledger.model_version
    ) as first_published_at
from public.promotion_ledger as ledger
left join public.windows on windows.run_key = ledger.run_key
left join lateral (
    select kind, rows, digest from public.snapshots
    where snapshots.window_id = windows.window_id and snapshots.created_at <= ledger.decided_at
    order by snapshot_id desc
    limit 1
) as snapshot on true
left join lateral (
    select model_version from public.model_evaluations
    where model_evaluations.run_key = ledger.run_key and scorer = 'champion' and model_version is not null
    limit 1
) as opponent on true
order by ledger.model_version, ledger.ledger_id;

comment on view analytics.model_lineage is
    'Origin of each model version: its run, window and snapshot, the version that it started from, and the first '
    'decision about it. One row for each version.';
comment on column analytics.model_lineage.model_version is 'version in the model registry';
comment on column analytics.model_lineage.kind is
    'full: trained on all feedback; micro: an update of its parent; null: its run is not known here';
comment on column analytics.model_lineage.compared_with is
    'the champion that it was compared with; null: there was none';
comment on column analytics.model_lineage.parent is 'the version that was updated; null for full';
comment on column analytics.model_lineage.decided_at is 'time of the first decision about it';
comment on column analytics.model_lineage.action is 'that decision: promote, hold or reject';
comment on column analytics.model_lineage.reason is 'machine-readable name of the reason';
comment on column analytics.model_lineage.run_key is 'the DAG run that trained it; null: a person promoted it';
comment on column analytics.model_lineage.window_id is 'the run''s window, as in window_reconciliation';
comment on column analytics.model_lineage.knows_below_transaction_id is
    'its training could use feedback of transactions below this one';
comment on column analytics.model_lineage.snapshot_rows is 'feedback events in its snapshot, including held-out ones';
comment on column analytics.model_lineage.snapshot_digest is 'SHA-256 of the snapshot''s files';
comment on column analytics.model_lineage.times_champion is 'promotions and rollbacks to it';
comment on column analytics.model_lineage.first_published_at is 'when users first saw its recommendations; null: never';
