-- Add a language that this release brings, and the texts that are new in it. Texts that are there stay: somebody may have
-- changed them. A language that somebody has added gets English texts for what is new.
-- Parameters :language, :texts (JSON).
insert into languages as known (language, is_default, texts)
select :language, :language = 'en' and not exists (select from languages where is_default), cast(:texts as jsonb)
on conflict (language) do update set
    texts = excluded.texts || known.texts || jsonb_build_object('did', excluded.texts -> 'did' || (known.texts -> 'did'))
where known.texts is distinct from
    excluded.texts || known.texts || jsonb_build_object('did', excluded.texts -> 'did' || (known.texts -> 'did'))
