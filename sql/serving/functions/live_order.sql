-- Order a pool again by what the user did since it was published. A reaction speaks for what people had together with its
-- item, where that is known: the first 50 items for the reaction that weighs most, fewer for others in proportion, because
-- most of the time goes to the rows. Otherwise it speaks for what lies in the direction of its vector, among the first 100
-- items of the pool. With had, items that people had together with those reacted to come in from outside the pool, behind
-- its last item. Ranks count, not scores: no model and no diversity changes their scale. Both are measured in standard
-- deviations over the candidates: a model's vectors may all point in one direction, and few items have been had together
-- with a new one, so that these few come first. The more somebody did, the more it counts.
--
-- What is trending comes in with had as well: no pool holds what has come since it was published. The odds of an item are
-- 1 / its place in the pool plus the weight of trending / its place there. Weights are those of serving.fitted_weights.
-- recsys.training.live_interest fits them with the same candidates and scores.
create or replace function serving.live_order(
    pool text[], scores real[], reacted text[], weights real[], had text[] default null,
    out ids text[], out ordered_scores real[], out raised boolean[]
)
language sql stable as $$
    with reactions as materialized (
        -- Later ones than the latest 20 weigh less than a thousandth.
        select reaction.item_id, reaction.weight, list.item_ids, list.scores
        from (
            select reaction.item_id, reaction.weight, greatest(10, 50 * abs(reaction.weight) / strongest.weight)::integer as most
            from unnest(reacted[:20], weights[:20]) as reaction (item_id, weight)
            cross join (select nullif(max(abs(weight)), 0) from unnest(weights[:20]) as given (weight)) as strongest (weight)
        ) as reaction
        left join lateral (
            select lists.item_ids[:reaction.most] as item_ids, lists.scores[:reaction.most] as scores
            from public.item_lists as lists
            where lists.kind = 'together' and lists.item_id = reaction.item_id
            offset 0
        ) as list on true
    ),
    interest as materialized (
        select
            fitted.trending,
            fitted.strength * amounts.by_lists / (amounts.of_all + 1) as by_lists,
            fitted.strength * 2 / 3 * coalesce(known.amount, 0) / (amounts.of_all + 1) as by_direction,
            known.direction,
            case when known.direction is null then 0 else 100 end as compared
        from (
            select
                coalesce(sum(abs(weight)) filter (where item_ids is not null), 0) as by_lists,
                coalesce(sum(abs(weight)), 0) as of_all,
                array_agg(item_id) filter (where item_ids is null) as others,
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
    beside as materialized (
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
            listed.item_id,
            listed.score,
            listed.place,
            beside.odds,
            -- What somebody reacted to is nearest to itself, which says nothing. The subqueries are hashed once; with
            -- ALL, Postgres would unpack the array for each item.
            case when listed.item_id not in (select unnest(reacted)) then coalesce(beside.score, 0) end as together,
            case when listed.place <= (select compared from interest) and listed.item_id not in (select unnest(reacted)) then
                (
                    select nullif(-(vectors.vector <=> (select direction from interest)), 'NaN')
                    from public.item_vectors as vectors
                    where vectors.item_id = listed.item_id
                )
            end as similarity
        from unnest(pool, scores) with ordinality as listed (item_id, score, place)
        left join beside on beside.item_id = listed.item_id
        union all
        select
                beside.item_id, coalesce(scores[cardinality(scores)], 0), coalesce(cardinality(pool), 0) + 1, beside.odds,
                coalesce(beside.score, 0), null
            from beside
            where had is not null
                and (beside.score > 0 or beside.odds is not null)
                and beside.item_id not in (select unnest(had || reacted || pool))
    ),
    spread as (
        select
            avg(similarity) as middle,
            nullif(stddev_pop(similarity), 0) as width,
            avg(together) as usual,
            nullif(stddev_pop(together), 0) as spread
        from candidates
    ),
    ordered as (
        select
            candidates.item_id,
            candidates.score,
            candidates.place,
            candidates.odds is not null as is_trending,
            coalesce(by_lists * (together - usual) / spread, 0)
            + coalesce(by_direction * (similarity - middle) / width, 0) as interest
        from candidates
        cross join spread
        cross join interest
        where by_lists > 0 or by_direction > 0 or interest.trending > 0
        order by
            coalesce(by_lists * (together - usual) / spread, 0)
            + coalesce(by_direction * (similarity - middle) / width, 0)
            + ln(1::double precision / place + coalesce(odds, 0)) desc,
            place,
            item_id collate "C"
    )
    select
        array_agg(item_id),
        array_agg(score),
        array_agg(
            case
                when position >= place and place <= cardinality(pool) then false
                when interest > 0 then true
                when not is_trending then false
            end
        )
    from (
        select ordered.*, row_number() over () as position from ordered
    ) as placed
    having count(*) > 0
$$;

comment on function serving.live_order(text[], real[], text[], real[], text[]) is
    'a pool in the order that a user''s latest reactions give it, and, unless had is null, what is trending and what people '
    'had together with what they reacted to and this user has not had; null if nothing is known of what they reacted to; '
    'raised by reactions (true), because it is trending (null) or not at all (false)';
