create or replace view analytics.comment_sentiment_by_item as
with commented as (
    select
        feedback.item_id,
        feedback.user_id,
        coalesce(
            opinion.sentiment,
            -- The event has no value: use the writer's latest opinion on the item.
            (
                select public.feedback_sentiment(types, other.value)
                from public.feedback as other
                join public.event_types as types using (event_type)
                where other.user_id = feedback.user_id
                  and other.item_id = feedback.item_id
                  and types.explicit
                  and (types.polarity <> 0 or other.value is not null)
                order by other.occurred_at desc nulls last, other.feedback_id desc
                limit 1
            )
        ) as sentiment
    from public.feedback
    join public.event_types using (event_type)
    cross join lateral (
        select
            case
                when explicit and (polarity <> 0 or value is not null)
                    then public.feedback_sentiment(event_types, value)
            end as sentiment
    ) as opinion
    where feedback.comment <> ''
)
select
    items.item_id,
    items.title,
    count(*) as comments,
    count(distinct commented.user_id) as users,
    case when count(distinct user_id) filter (where sentiment = 1) not between 1 and 4
        then count(*) filter (where sentiment = 1)
    end as positive,
    case when count(distinct user_id) filter (where sentiment = 0) not between 1 and 4
        then count(*) filter (where sentiment = 0)
    end as neutral,
    case when count(distinct user_id) filter (where sentiment = -1) not between 1 and 4
        then count(*) filter (where sentiment = -1)
    end as negative,
    case when count(distinct user_id) filter (where sentiment is null) not between 1 and 4
        then count(*) filter (where sentiment is null)
    end as unknown,
    case when count(distinct user_id) filter (where sentiment is not null) >= 5
        then avg(sentiment)::double precision
    end as average_sentiment
from commented
join public.items using (item_id)
group by items.item_id, items.title
-- Fewer people would be recognised in it: MIN_PEOPLE in recsys.warehouse.analytics.
having count(distinct commented.user_id) >= 5;

comment on view analytics.comment_sentiment_by_item is
    'Sentiment of the people who comment on an item. It comes from their rating, like or dislike, in the same '
    'event or otherwise in their latest one on the item. Nothing is inferred from the words of the comment. Items with '
    'comments of fewer than five people are left out, and so are counts of one to four people.';
comment on column analytics.comment_sentiment_by_item.item_id is 'the application''s id of the item';
comment on column analytics.comment_sentiment_by_item.title is 'as in the catalogue';
comment on column analytics.comment_sentiment_by_item.comments is 'events with a written comment';
comment on column analytics.comment_sentiment_by_item.users is 'distinct users who wrote them';
comment on column analytics.comment_sentiment_by_item.positive is 
    'comments with a like or a value of at least positive_from of the event type';
comment on column analytics.comment_sentiment_by_item.neutral is 'comments with a value in between';
comment on column analytics.comment_sentiment_by_item.negative is
    'comments with a dislike or a value of at most negative_to of the event type';
comment on column analytics.comment_sentiment_by_item.unknown is
    'comments of users without any rating, like or dislike on the item';
comment on column analytics.comment_sentiment_by_item.average_sentiment is
    'mean from -1 (all negative) to 1 (all positive) without unknown ones; null if fewer than five people have one';
