-- The row that reading functions return.
do $$
begin
    if to_regtype('serving.recommendation') is null then
        create type serving.recommendation as (
            rank integer,
            item_id text,
            title text,
            score real,
            reason text,
            source text,
            propensity real,
            model_version text,
            placement text
        );
    end if;
    if not exists (
        select from pg_attribute
        where attrelid = (select typrelid from pg_type where oid = 'serving.recommendation'::regtype)
            and attname = 'rule'
    ) then
        alter type serving.recommendation add attribute rule text;
    end if;
end $$;

comment on type serving.recommendation is 'one item of a list';
comment on column serving.recommendation.rank is '1 is the best; no number is missing';
comment on column serving.recommendation.title is 'its id, if the item has no title';
comment on column serving.recommendation.score is
    'what its source ranks by: comparable with the scores of the same source in the same answer';
comment on column serving.recommendation.reason is 'one sentence for the user; empty: none is known';
comment on column serving.recommendation.source is
    'personal: published for the user; live: moved up by what the user did since; segment, trending, popular: '
    'shared lists; rule: put here by a rule';
comment on column serving.recommendation.propensity is
    'probability with which the policy shows the item here; log it with the impression; null: not known';
comment on column serving.recommendation.rule is
    'the rule that put the item here, or moved it up; log it with the impression; null: none';
comment on column serving.recommendation.model_version is 'null for shared lists, which no model made';
