-- Only a publication for everyone reads the comments on items; another leaves what the last one said.
-- :everyone
delete from comment_sentiment
where :everyone
    and not exists (
        select from staged_comment_sentiment as staged where staged.item_id = comment_sentiment.item_id
    )
