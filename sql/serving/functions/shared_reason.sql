-- What a user reads beside an item that no model has explained.
create or replace function serving.shared_reason(source text) returns text
language sql immutable as $$
    select case source
        when 'segment' then 'Popular with others like you'
        when 'trending' then 'Popular right now'
        when 'popular' then 'Popular with others'
        when 'similar' then 'Similar'
        when 'together' then 'Often had together'
        when 'next' then 'Often had next'
        when 'buy_again' then 'You had this before'
        when 'new' then 'New'
        when 'live' then 'Similar to what you just chose'
        else ''
    end
$$;

comment on function serving.shared_reason(text) is 'reason of the items of a source';
