-- Age of the lists of all users in hours, counted from the first promotion if none were published; null without a
-- champion.
-- Parameter: until.
select
    extract(epoch from cast(:until as timestamptz) - coalesce(
        (select max(published_at) from publications where scope = 'all'),
        (select min(decided_at) from promotion_ledger where champion_sequence is not null)
    ))::double precision / 3600
