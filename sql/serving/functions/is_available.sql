-- Whether an item may be shown now. Postgres puts this one expression in the place of each call.
create or replace function serving.is_available(
    available boolean, available_from timestamptz, available_until timestamptz
) returns boolean
language sql stable as $$
    select available
        and coalesce(available_from <= statement_timestamp(), true)
        and coalesce(available_until > statement_timestamp(), true)
$$;

comment on function serving.is_available(boolean, timestamptz, timestamptz) is 'whether an item may be shown now';
