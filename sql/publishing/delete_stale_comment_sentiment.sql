-- Delete sentiments that a publication for everyone did not renew. Other publications do not read comments on items
-- and keep what the last one read.
-- Parameter :everyone.
delete from comment_sentiment
where :everyone
    and not exists (
        select from staged_comment_sentiment as staged where staged.item_id = comment_sentiment.item_id
    )
