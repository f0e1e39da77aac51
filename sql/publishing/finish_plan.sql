-- Mark this session's plan as published, in the transaction that publishes it.
update staging.plans set state = 'published' where plan_id = staging.current_plan()
