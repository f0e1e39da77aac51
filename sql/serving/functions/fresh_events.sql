-- What a user with a list of the last days did since it was read, by the small table that holds nothing else.
create or replace function serving.fresh_events(
    person text,
    since_transaction_id bigint,
    most integer
)
returns table (events bigint, gone text[], items text[], weights real[])
language sql stable rows 1 as $$
    select judged.*
    from (
        select array_agg(item_id) as item_ids, array_agg(event_type) as types, array_agg(value) as values,
            array_agg(occurred_at) as times
        from (
            select fresh.item_id, fresh.event_type, fresh.value, fresh.occurred_at
            from public.fresh_feedback as fresh
            where fresh.user_id = person and fresh.transaction_id >= since_transaction_id
            order by fresh.occurred_at desc, fresh.feedback_id desc
            limit most
        ) as latest
    ) as listed
    cross join lateral serving.judged(listed.item_ids, listed.types, listed.values, listed.times) as judged
$$;

comment on function serving.fresh_events(text, bigint, integer) is
    'what a user did since their list was read, at most so many of the latest events, and what it means: see '
    'serving.judged';
