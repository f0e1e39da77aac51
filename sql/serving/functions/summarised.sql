-- The row that functions return which sum something up.
do $$
begin
    if to_regtype('serving.summarised') is null then
        create type serving.summarised as (
            summary text,
            language text,
            model text,
            licence text
        );
    end if;
end $$;

comment on type serving.summarised is 'a text about a list or an item';
comment on column serving.summarised.language is 'of the text, apart from titles and phrases';
comment on column serving.summarised.model is 'the language model that wrote it; null: a template';
comment on column serving.summarised.licence is 'of the model';
