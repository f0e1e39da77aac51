-- Translate a filter into a predicate on an item's attributes. Names and values are quoted as JSON, which jsonpath reads
-- as strings: whatever they contain, they stay names and values.
create or replace function serving.filter_path(filter jsonb, also jsonb default null) returns jsonpath
language plpgsql immutable as $$
declare
    attribute text;
    wanted jsonb;
    value jsonb;
    bound text;
    conditions text[] := '{}';
    alternatives text[];
begin
    if filter is null or filter = '{}' then
        return case when also <> '{}' then serving.filter_path(also) end;
    end if;
    if jsonb_typeof(filter) <> 'object' then
        raise exception 'filter is a JSON %', jsonb_typeof(filter)
            using hint = 'Write an object of attributes: {"genre": "Thriller", "price": {"max": 20}}.',
                errcode = 'invalid_parameter_value';
    end if;
    for attribute, wanted in select * from jsonb_each(filter) loop
        alternatives := '{}';
        if jsonb_typeof(wanted) = 'object' then
            for bound, value in select * from jsonb_each(wanted) loop
                if bound not in ('min', 'max') or jsonb_typeof(value) not in ('number', 'string') then
                    raise exception 'filter on %: "%" is not a bound', to_json(attribute), bound
                        using hint = 'A range has "min", "max" or both, each a number or a text.',
                            errcode = 'invalid_parameter_value';
                end if;
                conditions := conditions || format(
                    '$.%s %s %s', to_json(attribute), case bound when 'min' then '>=' else '<=' end, value
                );
            end loop;
            continue;
        end if;
        for value in
            select * from jsonb_array_elements(
                case jsonb_typeof(wanted) when 'array' then wanted else jsonb_build_array(wanted) end
            )
        loop
            if jsonb_typeof(value) in ('object', 'array') then
                raise exception 'filter on %: a list of values contains a JSON %',
                    to_json(attribute), jsonb_typeof(value)
                    using hint = 'Each value is a text, a number, true, false or null.',
                        errcode = 'invalid_parameter_value';
            end if;
            alternatives := alternatives || format('$.%s == %s', to_json(attribute), value);
        end loop;
        conditions := conditions || case
            when cardinality(alternatives) = 0 then '1 == 0'
            else '(' || array_to_string(alternatives, ' || ') || ')'
        end;
    end loop;
    if also <> '{}' then
        conditions := conditions || serving.filter_path(also)::text;
    end if;
    return array_to_string(conditions, ' && ')::jsonpath;
end $$;

comment on function serving.filter_path(jsonb, jsonb) is
    'predicate on items.attributes for a filter: a value equals the attribute or one of its values, a list means any '
    'of its values, {"min": ..., "max": ...} is a range, and several attributes must all match; null: no filter';
