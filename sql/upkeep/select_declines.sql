-- Earlier champions that rank the newest feedback better than the champions of the last nights, beyond chance in at
-- least :nights of the last five comparisons, and by more than a share :decline on average.
-- What was compared before the last rollback says nothing about the present champion.
-- Parameters: until, nights, decline.
with latest as (
    select
        comparisons.*,
        row_number() over (partition by days order by compared_at desc) as nights_ago
    from champion_comparisons as comparisons
    where compared_at > cast(:until as timestamptz) - interval '14 days'
        and compared_at <= :until
        and compared_at > coalesce(
            (select max(decided_at) from promotion_ledger where action = 'roll_back'), '-infinity'
        )
)
select
    days,
    count(*) filter (where high < 0) as nights,
    count(*) as compared,
    avg(ndcg) as ndcg,
    avg(earlier_ndcg) as earlier_ndcg
from latest
where nights_ago <= 5
group by days
having count(*) filter (where high < 0) >= :nights
    and avg(difference) < -cast(:decline as double precision) * avg(earlier_ndcg)
order by days
