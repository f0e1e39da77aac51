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
    'Every time recommendations and vectors were swapped in: which version, for how many users.';
comment on column analytics.publication_history.scope is
    'all: everyone; affected: users with fresh feedback, new users, lists with items out of stock';
comment on column analytics.publication_history.users is 'lists that were written';
comment on column analytics.publication_history.publication_id is 'order of the publications';
comment on column analytics.publication_history.published_at is 'when readers saw it, all at once';
comment on column analytics.publication_history.run_key is 'the DAG run that published';
comment on column analytics.publication_history.model_version is 'the version that scored';
comment on column analytics.publication_history.items is 'items with a vector';
comment on column analytics.publication_history.through_transaction_id is
    'feedback of transactions below this one was read';
comment on column analytics.publication_history.latest is 'whether it is the last one';
