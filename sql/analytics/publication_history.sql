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
