-- The version that was champion at a moment; none before the first promotion.
-- Parameter: moment.
select model_version
from promotion_ledger
where champion_sequence is not null and decided_at <= :moment
order by champion_sequence desc
limit 1
