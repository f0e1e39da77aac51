-- What events of a person mean, latest first: what is off their lists for them, and what they say about taste. The rules
-- are those of publishing (EventTypes.hides_for and EventTypes.sentiment in recsys.snapshot.event_types). Postgres puts this
-- query in the place of each call.
create or replace function serving.judged(
    item_ids text[],
    event_types text[],
    amounts double precision[],
    times timestamptz[]
)
returns table (events bigint, gone text[], items text[], weights real[])
language sql stable rows 1 as $$
    with judged as (
        select
            listed.item_id,
            listed.occurred_at,
            listed.number,
            types.event_type is not null as known,
            types.role,
            types.weight,
            types.hide_days,
            public.feedback_sentiment(types, listed.value) as sentiment
        from unnest(item_ids, event_types, amounts, times) with ordinality
            as listed (item_id, event_type, value, occurred_at, number)
        left join public.event_types as types on types.event_type = listed.event_type
    ),
    ended as (
        select
            judged.*,
            case
                when judged.role = 'outcome' and judged.sentiment >= 0 then coalesce(item.rest_days, judged.hide_days)
                else judged.hide_days
            end as days
        from judged
        left join lateral (
            select
                coalesce(
                    items.rest_days,
                    (
                        select min(rest.rest_days)
                        from public.rest_periods as rest
                        where items.attributes -> rest.attribute ? rest.value
                            or items.attributes ->> rest.attribute = rest.value
                    )
                ) as rest_days
            from public.items
            -- Only outcomes have a rest; of other events the item is not looked up.
            where items.item_id = judged.item_id and judged.role = 'outcome' and judged.sentiment >= 0
            offset 0
        ) as item on true
    ),
    hidden as (
        select
            ended.*,
            not known or days is null
                or occurred_at + least(days, 36525) * interval '1 day' >= statement_timestamp() as hides
        from ended
    )
    select
        count(*),
        coalesce(array_agg(item_id) filter (where hides), '{}'),
        coalesce(array_agg(item_id) filter (where says), '{}'),
        coalesce(array_agg(weight) filter (where says), '{}')
    from (
        select
            hidden.item_id,
            hidden.hides,
            hidden.weight > 0 or hidden.sentiment < 0 as says,
            (case when hidden.sentiment < 0 then -1 else hidden.weight end * power(live.decay, hidden.number - 1))::real
                as weight
        from hidden
        cross join serving.fitted_weights() as live
        order by hidden.number
    ) as ordered
$$;

comment on function serving.judged(text[], text[], double precision[], timestamptz[]) is
    'how many events these are, what is off a person''s lists for them, and the items that say something about their '
    'taste, latest first, with weights: that of the event type, -1 for dislikes, less with each newer event, see '
    'serving.fitted_weights';
