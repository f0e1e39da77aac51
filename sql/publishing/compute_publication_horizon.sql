-- Transaction id below which feedback has passed validation and the model may read it. Before the first window is
-- reconciled: the id below which everything is committed.
select coalesce(
    (select max(windows.upper_transaction_id) from windows where windows.reconciled_at is not null),
    warehouse_horizon()
)
