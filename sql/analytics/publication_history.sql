create or replace view analytics.publication_history as
select
    publication_id,
    published_at,
    run_key,
    model_version,
    scope,
    users,
    items,
    through_transaction_id,
    publication_id = max(publication_id) over () as latest
from public.publications;

comment on view analytics.publication_history is
    'Every publication of recommendations and vectors: which model version, for how many users.';
comment on column analytics.publication_history.scope is
    'all: all users; affected: users with new feedback, new users, users whose list has an unavailable item';
comment on column analytics.publication_history.users is 'number of lists that were written';
comment on column analytics.publication_history.publication_id is 'increases with each publication';
comment on column analytics.publication_history.published_at is 'when readers saw it; the swap is atomic';
comment on column analytics.publication_history.run_key is 'the DAG run that published';
comment on column analytics.publication_history.model_version is 'the version that computed it';
comment on column analytics.publication_history.items is 'number of items with a vector';
comment on column analytics.publication_history.through_transaction_id is
    'it used feedback of transactions below this one';
comment on column analytics.publication_history.latest is 'whether this is the latest publication';
