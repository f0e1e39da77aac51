-- Stage and number the users to score. If :everyone is false, these are users with feedback that the last publication
-- did not read or a session joined since, users without a list, and users whose list has an item that is not available
-- :at this time or a reason that may name an item by an old title. Users who have asked to be erased are left out, and
-- so are visitors without :visitor_min_events events in the last :visitor_days days. If :only_active is true, feedback is
-- the only reason: no list is read, so that the cost is that of the feedback.
-- While an experiment runs, users of the challenger come last, and users of the hold-out are left out. Visitors, and users
-- without a key, get the champion's lists.
-- Parameters :since_transaction_id (inclusive), :at, :experiment_id (null: none runs).
insert into staged_users (position, user_id, user_key, consent, model_version, language)
with affected as (
    select users.user_id from users where :everyone and users.kind = 'user'
    union
    select feedback.user_id
    from feedback
    where :everyone
        and feedback.session_id is not null
        and feedback.occurred_at >= :at - make_interval(days => :visitor_days)
        and feedback.occurred_at < 'infinity'
    group by feedback.user_id
    having count(*) >= :visitor_min_events
    union
    select feedback.user_id
    from feedback
    where not :everyone and feedback.transaction_id >= :since_transaction_id
    union
    select visitors.joined_to
    from users as visitors
    where not :everyone
        and visitors.joined_to is not null
        and visitors.joined_transaction_id >= :since_transaction_id
    union
    select users.user_id
    from users
    where not :everyone
        and not :only_active
        and users.kind = 'user'
        and not exists (select from recommendation_lists as lists where lists.user_id = users.user_id)
    union
    select lists.user_id
    from recommendation_lists as lists
    cross join lateral unnest(lists.item_ids) as listed (item_id)
    join items on items.item_id = listed.item_id
    where not :everyone
        and not :only_active
        and (not items.available or items.available_from > :at or items.available_until <= :at)
    union
    select lists.user_id
    from recommendation_lists as lists
    where not :everyone
        and not :only_active
        and exists (
            select from staged_changed_titles as changed where strpos(lists.reasons::text, changed.named) > 0
        )
)
select
    row_number() over (order by arms.model_version nulls first, users.user_id) - 1,
    users.user_id,
    users.user_key,
    users.consent,
    arms.model_version,
    users.attributes ->> 'language'
from affected
join users on users.user_id = affected.user_id
left join experiments as running on running.experiment_id = cast(:experiment_id as bigint)
cross join lateral (
    select
        assigned.arm,
        case when assigned.arm = 'challenger' then running.challenger end as model_version
    from (
        select case when users.kind = 'user' then
            experiment_arm(users.user_key, running.salt, running.challenger_share, running.hold_out_share)
        end as arm
    ) as assigned
) as arms
where users.joined_to is null
    and arms.arm is distinct from 'hold_out'
    and not exists (
        select from erasure_requests as requests
        where requests.user_id = users.user_id and requests.status = 'requested'
    )
    and (
        users.kind = 'user'
        or :everyone
        or :visitor_min_events <= (
            select count(*)
            from (
                select from feedback
                where feedback.user_id = users.user_id
                    and feedback.occurred_at >= :at - make_interval(days => :visitor_days)
                    and feedback.occurred_at < 'infinity'
                limit :visitor_min_events
            ) as recent
        )
    )
