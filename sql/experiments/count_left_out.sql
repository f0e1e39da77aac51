-- Slates shown from the publication of all arms until :until that are not read, by reason.
-- Parameters: experiment_id, until.
select
    count(*) filter (where impressions.session_id is not null or users.kind = 'visitor') as of_sessions,
    count(*) filter (where users.user_id is null) as of_unknown_users,
    count(*) filter (
        where split_part(impressions.model_version, '+', 1) not in (select model_version from promotion_ledger)
            or split_part(impressions.model_version, '+', 2)
                not in (select '' union all select model_version from promotion_ledger)
    ) as of_unknown_versions,
    count(held.impression_id) as in_quarantine
from experiments as this
join impressions on impressions.shown_at >= this.shown_since and impressions.shown_at < cast(:until as timestamptz)
left join users on users.user_id = impressions.user_id
left join quarantined_impressions as held
    on (held.impression_id, held.shown_at) = (impressions.impression_id, impressions.shown_at) and held.status = 'held'
where this.experiment_id = :experiment_id
    and (this.placements is null or impressions.placement = any (this.placements))
