-- Note that a cause was found. One that is open stays open and is not sent again.
-- Parameters: cause, message, now.
insert into alerts (cause, message, opened_at, seen_at)
values (:cause, :message, :now, :now)
on conflict (cause) do update
set message = excluded.message,
    seen_at = excluded.seen_at,
    opened_at = case when alerts.closed_at is null then alerts.opened_at else excluded.opened_at end,
    sent_at = case when alerts.closed_at is null then alerts.sent_at end,
    closed_at = null
