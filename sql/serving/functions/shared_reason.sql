-- What a user reads beside an item of a shared list.
create or replace function serving.shared_reason(source text) returns text
language sql immutable as $$
    select case source
        when 'segment' then 'Popular with others like you'
        when 'trending' then 'Popular right now'
        when 'popular' then 'Popular with others'
        when 'new' then 'New'
        else ''
    end
$$;

comment on function serving.shared_reason(text) is 'reason of the items of a shared list';
