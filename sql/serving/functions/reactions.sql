-- What a person did since a moment: what is off their lists for it, and what it says about their taste. The rules are
-- those of publishing (EventTypes.hides_for and EventTypes.sentiment in recsys.snapshot.event_types).
create or replace function serving.reactions(
    person text,
    since_transaction_id bigint,
    since timestamptz,
    most integer,
    out gone text[],
    out items text[],
    out weights real[]
)
language sql stable as $$
    with latest as materialized (
        select
            feedback.item_id,
            feedback.event_type,
            nullif(feedback.value, 'NaN') as value,
            feedback.occurred_at,
            row_number() over (order by feedback.occurred_at desc, feedback.feedback_id desc) as number
        from public.feedback
        where feedback.user_id = person
            and feedback.transaction_id >= since_transaction_id
            and feedback.occurred_at > since
        order by feedback.occurred_at desc, feedback.feedback_id desc
        limit most
    ),
    judged as (
        select
            latest.*,
            types.event_type is not null as known,
            types.role,
            types.weight,
            types.hide_days,
            case
                when types.polarity = -1 or latest.value <= types.negative_to
                    or (types.value_is_amount and latest.value < 0) then -1
                when types.polarity = 1 or latest.value >= types.positive_from then 1
                else 0
            end as sentiment
        from latest
        left join public.event_types as types on types.event_type = latest.event_type
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
        coalesce(array_agg(item_id) filter (where hides), '{}'),
        coalesce(array_agg(item_id order by number) filter (where weight > 0 or sentiment < 0), '{}'),
        coalesce(
            array_agg(
                (case when sentiment < 0 then -1 else weight end * power(live.decay, number - 1))::real order by number
            ) filter (where weight > 0 or sentiment < 0),
            '{}'
        )
    from hidden
    cross join serving.live_weights() as live
$$;

comment on function serving.reactions(text, bigint, timestamptz, integer) is
    'what is off a person''s lists for what they did since then, and the items that say something about their taste, '
    'latest first, with weights: that of the event type, -1 for dislikes, less with each newer reaction, see serving.live_weights';
