-- Give up all plans that are not published. Their shards find their state changed before they write again.
with refused as (
    update staging.shards set state = 'closed'
    where plan_id in (select plan_id from staging.plans where state in ('planning', 'staging'))
)
update staging.plans set state = 'closed' where state in ('planning', 'staging')
