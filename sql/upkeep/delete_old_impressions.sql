-- Delete some of the slates that were shown more than :months months ago. A slate of one of them stays while another
-- transaction holds it.
-- Parameters: months, limit (rows).
delete from impressions
where impression_id in (
    select old.impression_id
    from impressions as old
    where old.shown_at < clock_timestamp() - make_interval(months => :months)
    order by old.shown_at
    limit :limit
    for update skip locked
)
