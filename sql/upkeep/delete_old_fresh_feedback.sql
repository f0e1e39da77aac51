-- Forget fresh feedback that is too old to count, in case nothing is published. Rows that somebody else is deleting are
-- left.
delete from fresh_feedback
where ctid = any (
    array(
        select fresh.ctid from fresh_feedback as fresh
        where fresh.occurred_at < now() - interval '15 days'
        for update skip locked
    )
)
