-- Find a list that is not a user's own. One attribute of users makes the segments.
create or replace function serving.shared_list(source text, attributes jsonb, segment text default null)
returns table (item_ids text[], scores real[])
language sql stable rows 1 as $$
    select lists.item_ids, lists.scores
    from public.shared_lists as lists
    where source in ('trending', 'popular')
        and (lists.kind, lists.attribute, lists.segment) = (source, '', '')
    union all
    select lists.item_ids, lists.scores
    from (
        select min(shared_lists.attribute) as attribute
        from public.shared_lists
        where shared_lists.kind = 'trending' and shared_lists.attribute > ''
    ) as segments
    join public.shared_lists as lists on (lists.kind, lists.attribute) = ('trending', segments.attribute)
        and lists.segment = coalesce(shared_list.segment, shared_list.attributes ->> segments.attribute)
    where source = 'segment'
$$;

comment on function serving.shared_list(text, jsonb, text) is
    'the list of a source: trending, popular, or segment for somebody with these attributes or for a named segment';
