-- Temporary tables of one publication. They disappear with the session, even if it is killed.
create temporary table staged_users (
    position integer primary key,
    user_id text not null unique,
    user_key text,
    consent boolean not null,
    model_version text,  -- null: the champion's
    language text  -- as the user asks for it
);
create temporary table staged_lists (
    position integer not null,
    item_ids text[] not null,
    scores real[] not null,
    propensities real[] not null,
    reasons jsonb not null,
    titles text[] not null,
    available_until timestamptz,
    language text not null
);
create temporary table staged_pools (
    position integer primary key,
    item_ids text[] not null,
    scores real[] not null,
    of_challenger boolean[]
);
create temporary table staged_user_vectors (position integer not null, vector vector not null);
create temporary table staged_item_vectors (position integer not null, vector vector not null);
create temporary table staged_similar_items (item_id text not null, item_ids text[] not null, scores real[] not null);
create temporary table staged_comment_sentiment (
    item_id text primary key,
    comments integer not null,
    average_value real not null,
    average_sentiment real not null
);
create temporary table staged_items (position integer primary key, item_id text not null);
create temporary table staged_catalogue (
    item_id text primary key,
    title text not null,
    text_digest text not null,
    available boolean not null
);
create temporary table staged_changed_titles (named text primary key);
