-- Delete some of the slates that were shown in months that ended more than :months months ago, and count them by month. A
-- slate of one of them stays while another transaction holds it.
-- Parameters: months, limit (rows).
with old as (
    select impression_id, shown_at
    from impressions
    where shown_at < date_trunc('month', now() - make_interval(months => :months), 'UTC')
    order by shown_at
    limit :limit
    for update skip locked
),
gone as (
    delete from impressions using old
    where impressions.impression_id = old.impression_id and impressions.shown_at = old.shown_at
    returning impressions.shown_at
),
counted as (
    insert into dropped_impressions as known (month, rows)
    select date_trunc('month', shown_at at time zone 'UTC')::date, count(*) from gone group by 1
    on conflict (month) do update set rows = known.rows + excluded.rows, dropped_at = excluded.dropped_at
)
select count(*) from gone
