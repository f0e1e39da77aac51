-- Slates that were shown to the users of an experiment from :before until :until, with the arm of each user, which follows from
-- the user's key. Visitors are in no arm, and what a session saw before its login is not the user's. A slate of a version that
-- never was to be shown is not ours, and one in quarantine cannot be right.
-- It is a part of select_users and select_interleaved_users.
-- Parameters: experiment_id, before, until.
with people as materialized (
    -- The hash costs more than anything else here, so it is computed once a user and not once a slate.
    select
        users.user_id,
        experiment_arm(users.user_key, this.salt, this.challenger_share, this.hold_out_share) as arm
    from experiments as this
    cross join users
    where this.experiment_id = :experiment_id and users.kind = 'user' and users.user_key is not null
)

select
    impressions.impression_id,
    impressions.user_id,
    people.arm,
    impressions.item_ids,
    impressions.model_version,
    impressions.shown_at,
    impressions.shown_at >= this.shown_since as during
from experiments as this
join valid_impressions as impressions
    on impressions.shown_at >= cast(:before as timestamptz) and impressions.shown_at < cast(:until as timestamptz)
join people on people.user_id = impressions.user_id
where this.experiment_id = :experiment_id
    and impressions.session_id is null
    and (this.placements is null or impressions.placement = any (this.placements))
    and (
        impressions.model_version is null
        or split_part(impressions.model_version, '+', 1) in (select model_version from promotion_ledger)
        and split_part(impressions.model_version, '+', 2) in (select '' union all select model_version from promotion_ledger)
    )
