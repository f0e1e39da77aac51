create or replace view analytics.item_phrases as
select
    items.item_id,
    items.title,
    case when found.praised then 'praised' else 'criticised' end as opinion,
    found.phrase,
    found.people,
    found.sentence,
    item_phrases.people as commenters,
    item_phrases.model_version,
    item_phrases.computed_at
from public.item_phrases
join public.items using (item_id)
cross join lateral jsonb_to_recordset(item_phrases.phrases)
    as found (praised boolean, phrase text, people integer, sentence text)
where item_phrases.people >= 5 and found.people >= 5;

comment on view analytics.item_phrases is
    'What people praise and criticise about an item in their comments: phrases that at least five people use with the '
    'same opinion. The published model reads the opinion from the sentences around a phrase. A person counts once, with '
    'the latest comment on the item. Made again every day for items whose comments have changed.';
comment on column analytics.item_phrases.item_id is 'the application''s id of the item';
comment on column analytics.item_phrases.title is 'as in the catalogue';
comment on column analytics.item_phrases.opinion is 'praised or criticised';
comment on column analytics.item_phrases.phrase is 'one to three words, in the language of the comments, in lower case';
comment on column analytics.item_phrases.people is 'who use the phrase with this opinion';
comment on column analytics.item_phrases.sentence is
    'a sentence with the phrase, if there is one in which every pair of neighbouring words is used by at least five '
    'people; otherwise null';
comment on column analytics.item_phrases.commenters is 'people whose comments on the item were read';
comment on column analytics.item_phrases.model_version is 'the version that read them';
comment on column analytics.item_phrases.computed_at is 'when they were read';
