-- What each user of an interleaved experiment was shown, answered and disliked of the items that each version picked, since all
-- arms were published, until :until; users of the control count for the shares only. A slate is looked up in the newest list that
-- had been published for its user when it was shown. What it shows besides, such as items that a rule placed, is nobody's, and so
-- is an item that both versions wanted.
-- Answers are defined as in select_users. The placeholder is select_slates.
-- Parameters: experiment_id, before (when all arms were published), until.
with this as (
    select * from experiments where experiment_id = :experiment_id
),
slates as (
    {slates}
),
interleaved as (
    select slates.*, list.item_ids as candidates, list.of_challenger
    from slates
    cross join this
    join lateral (
        select lists.item_ids, lists.of_challenger
        from interleaved_lists as lists
        where lists.experiment_id = this.experiment_id
            and lists.user_id = slates.user_id
            and lists.published_at <= slates.shown_at
        order by lists.published_at desc
        limit 1
    ) as list on true
    where slates.arm = 'challenger'
        and (slates.model_version is null or split_part(slates.model_version, '+', 2) = this.challenger)
),
picked as (
    select interleaved.impression_id, interleaved.user_id, interleaved.shown_at, candidate.item_id, candidate.of_challenger
    from interleaved
    cross join lateral unnest(interleaved.candidates, interleaved.of_challenger) as candidate (item_id, of_challenger)
    where candidate.item_id = any (interleaved.item_ids) and candidate.of_challenger is not null
),
answers as (
    select
        picked.user_id,
        picked.of_challenger,
        bool_or(event_types.role <> 'dislike') and not bool_or(said.sentiment < 0) as answered,
        bool_or(said.sentiment < 0) as disliked
    from picked
    join feedback
        on feedback.impression_id = picked.impression_id
        and feedback.user_id = picked.user_id
        and feedback.item_id = picked.item_id
        and feedback.occurred_at >= picked.shown_at - interval '1 hour'
    join event_types using (event_type)
    cross join lateral (select feedback_sentiment(event_types, feedback.value) as sentiment) as said
    where feedback.occurred_at < cast(:until as timestamptz)
    group by picked.user_id, picked.impression_id, picked.item_id, picked.of_challenger
),
shown_to as (
    select
        user_id,
        count(*) filter (where not of_challenger) as shown_of_champion,
        count(*) filter (where of_challenger) as shown_of_challenger
    from picked
    group by user_id
),
answered_by as (
    select
        user_id,
        count(*) filter (where answered and not of_challenger) as answered_of_champion,
        count(*) filter (where answered and of_challenger) as answered_of_challenger,
        count(*) filter (where disliked and not of_challenger) as disliked_of_champion,
        count(*) filter (where disliked and of_challenger) as disliked_of_challenger
    from answers
    group by user_id
)

select
    seen.arm,
    seen.slates,
    coalesce(of_both.slates, 0) as interleaved_slates,
    coalesce(shown_to.shown_of_champion, 0) as shown_of_champion,
    coalesce(shown_to.shown_of_challenger, 0) as shown_of_challenger,
    coalesce(answered_by.answered_of_champion, 0) as answered_of_champion,
    coalesce(answered_by.answered_of_challenger, 0) as answered_of_challenger,
    coalesce(answered_by.disliked_of_champion, 0) as disliked_of_champion,
    coalesce(answered_by.disliked_of_challenger, 0) as disliked_of_challenger
from (select user_id, arm, count(*) as slates from slates group by user_id, arm) as seen
left join (select user_id, count(*) as slates from interleaved group by user_id) as of_both using (user_id)
left join shown_to using (user_id)
left join answered_by using (user_id)
