-- Expectations that warned in the newest window of a DAG that was validated in the day before :until.
-- Parameter: until.
with newest as (
    select distinct on (windows.consumer, results.expectation)
        windows.consumer,
        results.expectation,
        results.success,
        results.severity,
        results.window_id
    from validation_results as results
    inner join windows using (window_id)
    where results.validated_at >= cast(:until as timestamptz) - interval '1 day'
        and results.validated_at < cast(:until as timestamptz)
    order by windows.consumer, results.expectation, results.window_id desc
)

select consumer, expectation, window_id
from newest
where severity = 'warning' and not success
order by consumer, expectation
