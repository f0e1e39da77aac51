-- How much what is trending counts for somebody who has not reacted since their list was published: what the published
-- model was fitted to, see recsys.training.live_interest. Without a row, lists are shown as they were published. It returns
-- a table, so that Postgres puts the query in the place of each call.
create or replace function serving.trending_before_reaction() returns table (weight double precision)
language sql stable rows 1 as $$
    select version.live_trending_before_reaction
    from public.model_versions as version
    where version.live_trending_before_reaction > 0
        and version.model_version = (
            select publications.model_version from public.publications order by publication_id desc limit 1
        )
$$;

comment on function serving.trending_before_reaction() is
    'weight of what is trending, of the published model, for users who have not reacted since the publication; no row: none';
