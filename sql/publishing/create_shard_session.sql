-- Let a shard write to the tables of its plan under the names that publications of one process give to their temporary
-- tables. Only its own users are in a temporary table.
create temporary table staged_users (
    position integer primary key,
    user_id text not null,
    user_key text,
    consent boolean not null,
    language text
);
select set_config('search_path', current_setting('search_path') || ', staging', false);
