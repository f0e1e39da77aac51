create or replace function analytics.champion_at(moment timestamptz) returns text
    language sql stable parallel safe
    as $$
        select model_version
        from analytics.champion_history
        where valid_from <= moment and (valid_to > moment or valid_to is null)
        order by champion_sequence desc
        limit 1
    $$;

revoke all on function analytics.champion_at(timestamptz) from public;

comment on function analytics.champion_at(timestamptz) is
    'The model version that was champion at a moment; null before the first champion.';
