-- Compute the lists of items that the same people had within a day (together) and of items had next (next). Of a person
-- only the latest events count, so that a robot with a million events costs no more than anybody. A pair needs several
-- people: it must not say what one of them did. The score is the cosine of the two items over people.
-- Parameters :at, :through_transaction_id (exclusive), :least_people, :events, :length.
with had as (
    select feedback.user_id, feedback.item_id, max(feedback.occurred_at) as occurred_at, max(feedback.feedback_id) as number
    from feedback
    join event_types on event_types.event_type = feedback.event_type
    join user_eligibility on user_eligibility.user_id = feedback.user_id
    where user_eligibility.may_train
        and feedback.occurred_at <= :at
        and feedback.transaction_id < :through_transaction_id
        and event_types.weight > 0
        and feedback_sentiment(event_types, feedback.value) >= 0
    group by feedback.user_id, feedback.item_id
),
latest as (
    select ranked.*, lead(item_id) over (partition by user_id order by occurred_at, number) as next_item
    from (
        select had.*, row_number() over (partition by user_id order by occurred_at desc, number desc) as recency
        from had
    ) as ranked
    where recency <= :events
),
people as (
    select item_id, count(*) as people from latest group by item_id
),
pairs as (
    select 'together' as kind, one.item_id, other.item_id as other, count(*) as people
    from latest as one
    join latest as other on other.user_id = one.user_id
        and other.item_id <> one.item_id
        and other.occurred_at between one.occurred_at - interval '1 day' and one.occurred_at + interval '1 day'
    group by one.item_id, other.item_id
    having count(*) >= :least_people
    union all
    select 'next', item_id, next_item, count(*)
    from latest
    where next_item is not null
    group by item_id, next_item
    having count(*) >= :least_people
),
scored as (
    select
        pairs.kind,
        pairs.item_id,
        pairs.other,
        pairs.people / sqrt(own.people * others.people) as score
    from pairs
    join people as own on own.item_id = pairs.item_id
    join people as others on others.item_id = pairs.other
    join items on items.item_id = pairs.other
),
ranked as (
    select scored.*, row_number() over (partition by kind, item_id order by score desc, other) as place
    from scored
)
insert into item_lists (kind, item_id, item_ids, scores)
select kind, item_id, array_agg(other order by place), array_agg(cast(score as real) order by place)
from ranked
where place <= :length
group by kind, item_id
