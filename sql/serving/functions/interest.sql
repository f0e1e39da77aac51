-- The direction in which reactions point: the sum of the items' vectors, each of length 1 times its weight.
create or replace function serving.interest(
    reacted text[], weights real[], out direction vector, out amount double precision
)
language sql stable as $$
    select
        sum(l2_normalize(known.vector) * array_fill(reaction.weight, array[vector_dims(known.vector)])::vector),
        sum(abs(reaction.weight))
    from unnest(reacted, weights) as reaction (item_id, weight)
    cross join lateral (
        select item_vectors.vector from public.item_vectors where item_vectors.item_id = reaction.item_id offset 0
    ) as known
$$;

comment on function serving.interest(text[], real[]) is
    'direction of somebody''s taste in the space of item vectors, and how much is known of it; null: nothing';
