-- What is trending, for all or for a segment.
create or replace function serving.trending(
    segment text default null, k integer default 10, language text default null
) returns setof serving.recommendation
language plpgsql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select * from serving.fill_up(
        sources => case when segment is null then '{trending,popular}' else '{segment,trending,popular}' end::text[],
        wanted => serving.checked_length(k),
        segment => segment,
        words => serving.words(trending.language)
    );
end $$;

comment on function serving.trending(text, integer, text) is
    'what is trending, for a segment first if one is named; filled up with what is popular of all time';
