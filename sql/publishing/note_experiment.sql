-- Note when all arms of the experiment were first published: slates from now on count.
-- Parameters :experiment_id, :everyone.
update experiments
set shown_since = now()
where experiment_id = :experiment_id and :everyone and shown_since is null and ended_at is null
