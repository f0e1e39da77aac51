-- Whether a rule holds now. Postgres puts this one expression in the place of each call, and finds it in the index.
create or replace function serving.is_valid(valid_from timestamptz, valid_until timestamptz) returns boolean
language sql stable as $$
    select valid_from <= statement_timestamp()
        and coalesce(valid_until, 'infinity'::timestamptz) > statement_timestamp()
$$;

comment on function serving.is_valid(timestamptz, timestamptz) is 'whether a rule holds now; a draft does not';
