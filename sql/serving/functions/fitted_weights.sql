-- How much live interest counts: what the published model was fitted to, see recsys.training.live_interest. It returns a
-- table, so that Postgres puts the query in the place of each call.
create or replace function serving.fitted_weights()
returns table (strength double precision, decay double precision, trending double precision)
language sql stable rows 1 as $$
    select coalesce(version.live_strength, 3), coalesce(version.live_decay, 0.7), coalesce(version.live_trending, 0)
    from (
        select (select publications.model_version from public.publications order by publication_id desc limit 1)
    ) as published (model_version)
    left join public.model_versions as version on version.model_version = published.model_version
$$;

comment on function serving.fitted_weights() is
    'of the published model: weight of what goes with a user''s latest reactions, weight of a reaction as a share of that '
    'of the next newer one, and weight of what is trending';
