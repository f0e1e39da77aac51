-- Join two predicates.
create or replace function serving.both_paths(one jsonpath, other jsonpath) returns jsonpath
language sql immutable as $$
    select case
        when one is null then other
        when other is null then one
        else format('(%s) && (%s)', one, other)::jsonpath
    end
$$;

comment on function serving.both_paths(jsonpath, jsonpath) is 'predicate that holds where both hold; null: none';
