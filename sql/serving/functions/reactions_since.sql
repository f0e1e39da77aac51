-- What a person did since a moment, by the table of all feedback.
create or replace function serving.reactions_since(
    person text,
    since_transaction_id bigint,
    since timestamptz,
    most integer,
    out events bigint,
    out gone text[],
    out items text[],
    out weights real[]
)
language sql stable as $$
    select judged.*
    from (
        select array_agg(item_id) as item_ids, array_agg(event_type) as types, array_agg(value) as values,
            array_agg(occurred_at) as times
        from (
            select feedback.item_id, feedback.event_type, feedback.value, feedback.occurred_at
            from public.feedback
            where feedback.user_id = person
                and feedback.transaction_id >= since_transaction_id
                and feedback.occurred_at > since
            order by feedback.occurred_at desc, feedback.feedback_id desc
            limit most
        ) as latest
    ) as listed
    cross join lateral serving.judged(listed.item_ids, listed.types, listed.values, listed.times) as judged
$$;

comment on function serving.reactions_since(text, bigint, timestamptz, integer) is
    'what a person did since then, at most so many of the latest events, and what it means: see serving.judged';
