-- How much what is trending counts for somebody who has not reacted since their list was published: what the published
-- model was fitted to, see recsys.training.live_interest. Where it is 0, lists are shown as they were published.
create or replace function serving.trending_before_reaction()
returns double precision
language sql stable as $$
    select coalesce(max(version.live_trending_before_reaction), 0)
    from public.model_versions as version
    where version.model_version = (
        select publications.model_version from public.publications order by publication_id desc limit 1
    )
$$;

comment on function serving.trending_before_reaction() is
    'weight of what is trending, of the published model, for users who have not reacted since the publication';
