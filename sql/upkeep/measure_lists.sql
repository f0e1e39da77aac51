-- How different lists and vectors are: users who have a list, different items among the first ten of all lists, and the mean
-- cosine of the vectors of two users, which is 1 if all are the same; null without vectors.
-- Vectors of another length are left by a model that is being replaced.
select
    (select count(*) from recommendation_lists) as users,
    (
        select count(distinct listed.item_id)
        from recommendation_lists as lists
        cross join lateral unnest(lists.item_ids[1 : 10]) as listed (item_id)
    ) as items,
    (
        select vector_norm(avg(l2_normalize(vectors.vector))) ^ 2
        from user_vectors as vectors
        where vector_dims(vectors.vector) = (select vector_dims(vector) from item_vectors limit 1)
    ) as similarity
