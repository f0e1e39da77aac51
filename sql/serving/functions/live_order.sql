-- Order the first items of a pool again by what the user did since it was published. Ranks count, not scores: no model
-- and no diversity changes their scale. Similarity is measured in standard deviations over the pool, because a model's
-- vectors may all point in one direction. The more somebody did, the more it counts. The weights are constants until
-- they are fitted on feedback.
create or replace function serving.live_order(
    pool text[], scores real[], reacted text[], weights real[],
    out ids text[], out ordered_scores real[], out raised boolean[]
)
language sql stable as $$
    with interest as materialized (
        select * from serving.interest(reacted, weights)
    ),
    near as materialized (
        select
            listed.item_id,
            listed.score,
            listed.place,
            -- What somebody reacted to is nearest to itself, which says nothing. The subquery is hashed once; with ALL,
            -- Postgres would unpack the array for each item.
            case when listed.item_id not in (select unnest(reacted))
                then nullif(-(known.vector <=> interest.direction), 'NaN')
            end as similarity
        from interest
        cross join unnest(pool[1:100], scores[1:100]) with ordinality as listed (item_id, score, place)
        left join lateral (
            select item_vectors.vector from public.item_vectors where item_vectors.item_id = listed.item_id offset 0
        ) as known on true
        where interest.direction is not null
    ),
    spread as (
        select avg(similarity) as middle, nullif(stddev_pop(similarity), 0) as width from near
    ),
    placed as (
        select
            near.item_id,
            near.score,
            near.place,
            row_number() over (
                order by
                    coalesce(2 * amount / (amount + 1) * (similarity - middle) / width, 0) - ln(place) desc, place
            ) as position
        from near
        cross join spread
        cross join interest
    )
    select
        array_agg(item_id order by position) || pool[101:],
        array_agg(score order by position) || scores[101:],
        array_agg(position < place order by position)
    from placed
    having count(*) > 0
$$;

comment on function serving.live_order(text[], real[], text[], real[]) is
    'a pool in the order that a user''s latest reactions give it; null if no vector is known of what they reacted to';
