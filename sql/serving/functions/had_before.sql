-- What a person had, most often first. What is still off their lists stays off: a rest period is not over.
create or replace function serving.had_before(person text, most integer)
returns table (item_id text, times real)
language sql stable rows 10 as $$
    select had.item_id, had.times
    from (
        select feedback.item_id, count(*)::real as times, max(feedback.occurred_at) as latest
        from public.feedback
        join public.event_types on event_types.event_type = feedback.event_type
        where feedback.user_id = person
            and event_types.role = 'outcome'
            and public.feedback_sentiment(event_types, feedback.value) >= 0
        group by feedback.item_id
    ) as had
    where had.item_id <> all (
        array(select unnest(reactions.gone) from serving.reactions_since(person, 0, '-infinity', 10000) as reactions)
    )
    order by had.times desc, had.latest desc
    limit most
$$;

comment on function serving.had_before(text, integer) is 'what a person had before and may have again, most often first';
