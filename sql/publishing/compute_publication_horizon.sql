-- Transaction id below which feedback has passed validation and the model may read it. A validation that passes also
-- settles the earlier windows of its consumer. As long as none has passed: where the first window with feedback starts,
-- or, without such a window, the id below which everything is committed. That a window was counted says nothing here.
select coalesce(
    (
        select max(windows.upper_transaction_id)
        from windows
        where exists (
            select from validation_results as finished
            where finished.window_id = windows.window_id and finished.expectation = 'valid_share'
        )
            and not exists (
                select from validation_results as failed
                where failed.window_id = windows.window_id and failed.severity = 'critical' and not failed.success
            )
    ),
    (select min(windows.lower_transaction_id) from windows where windows.arrived > 0),
    warehouse_horizon()
)
