-- Stage the users of a shard under their numbers in the plan. Consent is read as of now. The place of a user who has been
-- erased since the plan stays, without an id, so that all others stay in their batches.
-- Parameters :first, :last (exclusive).
insert into staged_users (position, user_id, user_key, consent, language)
select planned.position, coalesce(planned.user_id, ''), users.user_key, coalesce(users.consent, false), users.attributes ->> 'language'
from staging.staged_users as planned
left join users on users.user_id = planned.user_id
where planned.plan_id = staging.current_plan() and planned.position >= :first and planned.position < :last
