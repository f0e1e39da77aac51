-- Say that a placement does not exist, and which do.
create or replace function serving.refuse_placement(placement text) returns void
language plpgsql stable as $$
begin
    raise exception 'there is no placement %', coalesce(quote_literal(placement), 'NULL')
        using errcode = 'invalid_parameter_value',
            hint = 'Add it to the table placements, or ask for one of: '
            || (select string_agg(placements.placement, ', ' order by placements.placement) from public.placements);
end $$;

comment on function serving.refuse_placement(text) is 'raises the error that there is no such placement';
