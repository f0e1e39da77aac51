-- What people praise and criticise about an item, phrase by phrase. No row: there are no phrases of enough people.
create or replace function serving.item_phrases(
    item_id text
) returns table (praised boolean, phrase text, people integer, sentence text)
language sql stable security definer rows 10
set search_path = pg_catalog, public, pg_temp
as $$
select
    found.praised,
    found.phrase,
    found.people,
    found.sentence
from public.item_phrases as kept
cross join lateral rows from (
    jsonb_to_recordset(kept.phrases) as (praised boolean, phrase text, people integer, sentence text)
) with ordinality as found (praised, phrase, people, sentence, place)
where kept.item_id = item_phrases.item_id and kept.people >= 5 and found.people >= 5
order by found.praised desc, found.place
$$;

comment on function serving.item_phrases(text) is
    'what people praise and criticise about an item in their comments: phrases in their language, with the number of '
    'people and, where one may be shown, a sentence of one of them; those with the clearest opinion first';
