-- Order a pool again by what the user did since it was published. A reaction speaks for what people had together with its
-- item, where that is known: the first 50 items for the reaction that weighs most, fewer for others in proportion, because
-- most of the time goes to the rows; one that weighs less than a hundredth of it says nothing. Otherwise it speaks for what
-- lies in the direction of its vector, among the first 100 items of the pool. With had, items that people had together with
-- those reacted to come in from outside the pool, behind its last item. Ranks count, not scores: no model and no diversity
-- changes their scale. Both are measured in standard deviations over the candidates: a model's vectors may all point in one
-- direction, and few items have been had together with a new one, so that these few come first. The more somebody did, the
-- more it counts.
--
-- What is trending comes in with had as well, also without a reaction: no pool holds what has come since it was
-- published. The odds of an item are 1 / its place in the pool plus the weight of trending / its place there. Weights are
-- those of serving.fitted_weights and, without a reaction, of serving.trending_before_reaction;
-- recsys.training.live_interest fits them with the same candidates and scores.
--
-- It returns a table, so that Postgres puts the query in the place of each call: a caller that needs the first items sorts
-- no others. That needs arguments that are cheap, such as variables.
create or replace function serving.live_ranking(
    pool text[], scores real[], reacted text[], weights real[], had text[] default null
) returns table (item_id text, score real, place integer, is_trending boolean, interest double precision)
language sql stable rows 300 as $$
    with reactions as materialized (
        select said.item_id, said.weight, list.item_ids, list.scores
        from (
            select latest.item_id, latest.weight, (50 * abs(latest.weight) / max(abs(latest.weight)) over ())::integer as most
            from (select unnest(reacted[:20]) as item_id, unnest(weights[:20]) as weight) as latest
            where latest.weight <> 0
        ) as said
        left join lateral (
            select lists.item_ids[:said.most] as item_ids, lists.scores[:said.most] as scores
            from public.item_lists as lists
            where lists.kind = 'together' and lists.item_id = said.item_id
            offset 0
        ) as list on true
        where said.most > 0
    ),
    interest as materialized (
        select
            case
                when amounts.of_all > 0 then fitted.trending
                else coalesce((select weight from serving.trending_before_reaction()), 0)
            end as trending,
            fitted.strength * amounts.by_lists / (amounts.of_all + 1) as by_lists,
            fitted.strength * 2 / 3 * coalesce(known.amount, 0) / (amounts.of_all + 1) as by_direction,
            known.direction,
            case when known.direction is null then 0 else 100 end as compared
        from (
            select
                coalesce(sum(abs(weight)) filter (where item_ids is not null), 0) as by_lists,
                coalesce(sum(abs(weight)), 0) as of_all,
                array_agg(reactions.item_id) filter (where item_ids is null) as others,
                array_agg(weight) filter (where item_ids is null) as weights_of_others
            from reactions
        ) as amounts
        cross join serving.fitted_weights() as fitted
        left join lateral (
            select found.direction, found.amount
            from serving.interest(amounts.others, amounts.weights_of_others) as found
            where amounts.others is not null
            offset 0
        ) as known on true
    ),
    beside as (
        select neighbour.item_id, sum(neighbour.score * neighbour.weight)::double precision as score, max(neighbour.odds) as odds
        from (
            select
                unnest(reactions.item_ids) as item_id, unnest(reactions.scores) as score, reactions.weight,
                null::double precision as odds
            from reactions
            where reactions.item_ids is not null
            union all
            select
                unnest(lists.item_ids[:60]), null, null,
                interest.trending / generate_subscripts(lists.item_ids[:60], 1)
            from interest
            join public.shared_lists as lists on (lists.kind, lists.attribute, lists.segment) = ('trending', '', '')
            where had is not null and interest.trending > 0
        ) as neighbour
        group by neighbour.item_id
    ),
    candidates as materialized (
        select
            coalesce(listed.item_id, beside.item_id) as item_id,
            coalesce(listed.score, scores[cardinality(scores)], 0) as score,
            listed.place,
            beside.odds,
            -- What somebody reacted to is nearest to itself, which says nothing. The subqueries are hashed once; with
            -- ALL, Postgres would unpack the array for each item.
            case
                when listed.place is null or listed.item_id not in (select reactions.item_id from reactions)
                    then coalesce(beside.score, 0)
            end as together,
            case
                when listed.place <= (select compared from interest)
                    and listed.item_id not in (select reactions.item_id from reactions)
                then (
                    select nullif(-(vectors.vector <=> (select direction from interest)), 'NaN')
                    from public.item_vectors as vectors
                    where vectors.item_id = listed.item_id
                )
            end as similarity
        from (select unnest(pool) as item_id, unnest(scores) as score, generate_subscripts(pool, 1) as place) as listed
        full join beside on beside.item_id = listed.item_id
        where listed.place is not null
            or had is not null and (beside.score > 0 or beside.odds is not null)
            and beside.item_id not in (select unnest(had || reacted))
    )
    select rated.item_id, rated.score, rated.place, rated.odds is not null, rated.interest
    from (
        select
            candidates.*,
            coalesce(by_lists * (together - usual) / spread, 0)
            + coalesce(by_direction * (similarity - middle) / width, 0) as interest
        from candidates
        cross join (
            select
                avg(similarity) as middle,
                nullif(stddev_pop(similarity), 0) as width,
                avg(together) as usual,
                nullif(stddev_pop(together), 0) as spread
            from candidates
        ) as spread
        cross join interest
        where by_lists > 0 or by_direction > 0 or interest.trending > 0
        offset 0
    ) as rated
    order by
        rated.interest + ln(1::double precision / coalesce(place, cardinality(pool) + 1, 1) + coalesce(odds, 0)) desc,
        place, item_id collate "C"
$$;

comment on function serving.live_ranking(text[], real[], text[], real[], text[]) is
    'a pool in the order that a user''s latest reactions give it, and, unless had is null, what is trending and what people '
    'had together with what they reacted to and this user has not had; no row if nothing is known of what they reacted to; '
    'the place in the pool (null: from outside), and how much reactions speak for an item';
