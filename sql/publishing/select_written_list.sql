-- What was written when a model was told the same of another list.
-- Parameter :content_digest.
select summary, refusal from list_summaries where content_digest = :content_digest limit 1
