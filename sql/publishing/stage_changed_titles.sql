-- Stage the titles that the last publication read and that have changed since, as they stand in the JSON of reasons. An
-- item without a title is named by its id, in each language.
insert into staged_changed_titles (named)
select distinct
    trim(both '"' from to_jsonb(
        case published.title
            when '' then replace(languages.texts ->> 'untitled', '{id}', published.item_id)
            else published.title
        end
    )::text)
from published_items as published
left join staged_catalogue as staged using (item_id)
cross join languages
where staged.title is distinct from published.title
