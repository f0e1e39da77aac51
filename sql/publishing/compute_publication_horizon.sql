-- Feedback below this transaction id has passed validation and may be read by the model. Before any
-- window was reconciled, that is all that is committed for good.
select coalesce(
    (select max(windows.upper_transaction_id) from windows where windows.reconciled_at is not null),
    warehouse_horizon()
)
