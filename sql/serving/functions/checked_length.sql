-- Refuse a length that no list has.
create or replace function serving.checked_length(k integer) returns integer
language plpgsql immutable as $$
begin
    if k is null or k not between 1 and 1000 then
        raise exception 'k is %', coalesce(k::text, 'NULL')
            using errcode = 'invalid_parameter_value', hint = 'Ask for 1 to 1000 items.';
    end if;
    return k;
end $$;

comment on function serving.checked_length(integer) is 'k, if a list can be so long; an error otherwise';
