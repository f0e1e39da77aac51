-- Texts for users who ask for these languages.
-- Parameter :asked.
select asked.language as asked, languages.language, languages.texts
from unnest(cast(:asked as text[])) as asked (language)
join languages on languages.language = language_of(asked.language)
