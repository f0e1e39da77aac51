-- The texts of the language that somebody reads. What a reader needs is looked up once a call: these rows are few.
create or replace function serving.words(asked text) returns jsonb
language sql stable as $$
    select texts from public.languages where language = public.language_of(asked)
$$;

comment on function serving.words(text) is 'texts that stand beside items, in this language or in the default one';
