-- Replace the lists of one kind: what most people wanted, for all and for the segments that an attribute of users makes.
-- A person counts once for an item, with the weight of the strongest event. Lately means before the newest event, so
-- that a log that ended long ago has trends too; an event that lies in the future does not count. An item is in a
-- segment's list only if enough of its people wanted it: the list must not say what one of them did. An attribute of
-- many values, such as a postcode, has lists for those that most people share, and none for values that are whole texts.
-- Parameters :kind, :at, :days (null: all time), :half_life_days (null: an old event counts like a new one),
-- :through_transaction_id (exclusive), :attribute (empty: no segments), :least_people, :length, :most_segments.
with newest as (
    select max(feedback.occurred_at) as at
    from feedback
    where feedback.occurred_at <= :at
),
votes as (
    select
        feedback.item_id,
        feedback.user_id,
        max(
            event_types.weight
            * case
                when cast(:half_life_days as double precision) is null then 1
                else power(
                    0.5::double precision,
                    extract(epoch from newest.at - feedback.occurred_at) / (:half_life_days * 86400)
                )
            end
        ) as weight
    from newest
    join feedback on feedback.occurred_at <= newest.at
        and feedback.occurred_at > coalesce(
            newest.at - cast(:days as double precision) * interval '1 day', cast('-infinity' as timestamptz)
        )
    join event_types on event_types.event_type = feedback.event_type
    join user_eligibility on user_eligibility.user_id = feedback.user_id
    where user_eligibility.may_train
        and feedback.transaction_id < :through_transaction_id
        and event_types.weight > 0
        and feedback_sentiment(event_types, feedback.value) >= 0
    group by feedback.item_id, feedback.user_id
),
segments as (
    select users.attributes ->> :attribute as segment
    from (select distinct votes.user_id from votes) as voters
    join users on users.user_id = voters.user_id
    where :attribute <> '' and users.attributes ->> :attribute <> '' and length(users.attributes ->> :attribute) <= 200
    group by users.attributes ->> :attribute
    having count(*) >= :least_people
    order by count(*) desc, users.attributes ->> :attribute
    limit :most_segments
),
counted as (
    select '' as attribute, '' as segment, votes.item_id, sum(votes.weight) as score
    from votes
    group by votes.item_id
    union all
    select :attribute, segments.segment, votes.item_id, sum(votes.weight)
    from votes
    join users on users.user_id = votes.user_id
    join segments on segments.segment = users.attributes ->> :attribute
    group by segments.segment, votes.item_id
    having count(*) >= :least_people
),
ranked as (
    select
        counted.*,
        row_number() over (partition by attribute, segment order by score desc, item_id) as place
    from counted
    join items using (item_id)
    where items.available and coalesce(items.available_until > :at, true)
)
insert into shared_lists (kind, attribute, segment, item_ids, scores)
select
    :kind,
    attribute,
    segment,
    array_agg(item_id order by place),
    array_agg(cast(score as real) order by place)
from ranked
where place <= :length
group by attribute, segment
