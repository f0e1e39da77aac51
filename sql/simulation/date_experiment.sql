-- Let the slates of the running experiment count from a simulated moment on; a publication has noted the present.
-- Parameter :moment.
update experiments
set shown_since = :moment
where ended_at is null and shown_since is not null
