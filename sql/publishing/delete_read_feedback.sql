-- Forget fresh feedback that the lists of its users have read, and what is too old to count. Of users without a list
-- nothing is needed below the bound that their first list will have. Rows that somebody else is deleting are left: a
-- publication waits for no login, and no two deletions wait for each other.
-- Parameter :through_transaction_id (exclusive).
delete from fresh_feedback
where ctid = any (
    array(
        select fresh.ctid
        from fresh_feedback as fresh
        where (
            fresh.transaction_id < :through_transaction_id
            and not exists (
                select from recommendation_lists as lists
                where lists.user_id = fresh.user_id and lists.through_transaction_id <= fresh.transaction_id
            )
        )
            or fresh.occurred_at < now() - interval '15 days'
        for update skip locked
    )
)
