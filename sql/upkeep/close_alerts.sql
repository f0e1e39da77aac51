-- Close the open alerts whose cause is no longer found.
-- Parameters: now, causes (those found).
update alerts
set closed_at = :now
where closed_at is null and cause <> all (cast(:causes as text[]))
