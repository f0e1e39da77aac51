-- Order a pool again by what the user did since it was published. A reaction speaks for what people had together with
-- its item, where that is known, and otherwise for what lies in the direction of its vector, among the first 100 items
-- of the pool. With had, items that people had together with those reacted to come in from outside the pool, behind its
-- last item. Ranks count, not scores: no model and no diversity changes their scale. Both are measured in standard
-- deviations over the pool: a model's vectors may all point in one direction, and few items have been had together with
-- a new one, so that these few come first. The more somebody did, the more it counts.
--
-- What is trending comes in with had as well: no pool holds what has come since it was published. The odds of an item are
-- 1 / its place in the pool plus the weight of trending / its place there. Weights are those of serving.live_weights.
drop function if exists serving.live_order(text[], real[], text[], real[]);
create or replace function serving.live_order(
    pool text[], scores real[], reacted text[], weights real[], had text[] default null,
    out ids text[], out ordered_scores real[], out raised boolean[]
)
language sql stable as $$
    with weight as materialized (
        select * from serving.live_weights()
    ),
    reactions as materialized (
        -- Later ones than the latest 20 weigh less than a thousandth.
        select reaction.item_id, reaction.weight, list.item_ids, list.scores
        from unnest(reacted[:20], weights[:20]) as reaction (item_id, weight)
        left join lateral (
            select lists.item_ids, lists.scores
            from public.item_lists as lists
            where lists.kind = 'together' and lists.item_id = reaction.item_id
            offset 0
        ) as list on true
    ),
    beside as materialized (
        select neighbour.item_id, sum(neighbour.score * reactions.weight) as score
        from reactions
        cross join lateral unnest(reactions.item_ids, reactions.scores) as neighbour (item_id, score)
        group by neighbour.item_id
    ),
    amounts as (
        select
            coalesce(sum(abs(weight)) filter (where item_ids is not null), 0) as by_lists,
            coalesce(sum(abs(weight)), 0) as of_all,
            array_agg(item_id) filter (where item_ids is null) as others,
            array_agg(weight) filter (where item_ids is null) as weights_of_others
        from reactions
    ),
    interest as materialized (
        select by_lists, of_all, known.direction, coalesce(known.amount, 0) as by_direction
        from amounts
        cross join lateral serving.interest(others, weights_of_others) as known
    ),
    others as (
        select beside.item_id
        from beside
        where had is not null
            and beside.score > 0
            and beside.item_id not in (select unnest(had || reacted || pool))
        order by beside.score desc, beside.item_id
        limit 100
    ),
    trends as materialized (
        select trend.item_id, weight.trending / trend.place as odds
        from weight
        join public.shared_lists as lists on (lists.kind, lists.attribute, lists.segment) = ('trending', '', '')
        cross join lateral unnest(lists.item_ids[:60]) with ordinality as trend (item_id, place)
        where had is not null and weight.trending > 0
    ),
    candidates as (
        select listed.item_id, listed.score, listed.place
        from unnest(pool, scores) with ordinality as listed (item_id, score, place)
        union all
        select outside.item_id, coalesce(scores[cardinality(scores)], 0), coalesce(cardinality(pool), 0) + 1
        from (
            select others.item_id from others
            union
            select trends.item_id from trends where trends.item_id not in (select unnest(had || reacted || pool))
        ) as outside
    ),
    listed as materialized (
        select
            listed.item_id,
            listed.score,
            listed.place,
            trends.odds is not null as is_trending,
            ln(1::double precision / listed.place + coalesce(trends.odds, 0)) as published,
            -- What somebody reacted to is nearest to itself, which says nothing. The subqueries are hashed once; with
            -- ALL, Postgres would unpack the array for each item.
            case when listed.item_id not in (select unnest(reacted)) then coalesce(beside.score, 0) end as together,
            case when listed.item_id not in (select unnest(reacted))
                then nullif(-(known.vector <=> interest.direction), 'NaN')
            end as similarity
        from interest
        cross join candidates as listed
        left join beside on beside.item_id = listed.item_id
        left join trends on trends.item_id = listed.item_id
        left join lateral (
            select item_vectors.vector
            from public.item_vectors
            where interest.direction is not null and listed.place <= 100 and item_vectors.item_id = listed.item_id
            offset 0
        ) as known on true
    ),
    spread as (
        select
            avg(similarity) as middle,
            nullif(stddev_pop(similarity), 0) as width,
            avg(together) as usual,
            nullif(stddev_pop(together), 0) as spread
        from listed
    ),
    judged as (
        select
            listed.*,
            coalesce(strength * by_lists / (of_all + 1) * (together - usual) / spread, 0)
            + coalesce(strength * 2 / 3 * by_direction / (of_all + 1) * (similarity - middle) / width, 0) as interest
        from listed
        cross join spread
        cross join interest
        cross join weight
        where by_lists > 0 or by_direction > 0 or weight.trending > 0
    ),
    placed as (
        select judged.*, row_number() over (order by interest + published desc, place, item_id) as position
        from judged
    )
    select
        array_agg(item_id order by position),
        array_agg(score order by position),
        array_agg(
            case
                when position >= place and place <= cardinality(pool) then false
                when interest > 0 then true
                when not is_trending then false
            end
            order by position
        )
    from placed
    having count(*) > 0
$$;

comment on function serving.live_order(text[], real[], text[], real[], text[]) is
    'a pool in the order that a user''s latest reactions give it, and, unless had is null, what is trending and what people '
    'had together with what they reacted to and this user has not had; null if nothing is known of what they reacted to; '
    'raised by reactions (true), because it is trending (null) or not at all (false)';
