create or replace view analytics.click_through_by_slate as
select
    (impressions.shown_at at time zone 'UTC')::date as shown_on,
    coalesce(impressions.model_version, 'unknown') as model_version,
    impressions.query is not null as requested,
    cardinality(array_remove(impressions.item_ids, null)) as items,
    count(distinct reactions.item_id) as reactions,
    count(distinct reactions.item_id) filter (where reactions.event_type = 'click') as clicks,
    count(distinct reactions.item_id) filter (where reactions.event_type = 'purchase') as conversions,
    min(array_position(impressions.item_ids, reactions.item_id))
        filter (where reactions.event_type = 'click') as first_clicked_position,
    extract(epoch from min(reactions.occurred_at) - impressions.shown_at)::double precision
        as seconds_to_first_reaction
from public.impressions
left join public.feedback as reactions
    on reactions.impression_id = impressions.impression_id
    and reactions.user_id = impressions.user_id
    and reactions.item_id = any (impressions.item_ids)
    and isfinite(reactions.occurred_at)
group by impressions.impression_id;

comment on view analytics.click_through_by_slate is
    'One row for each slate that was shown, with the reactions to it. It leaves out the ids of slate and user and '
    'the words of the request, which may contain personal data.';
comment on column analytics.click_through_by_slate.shown_on is
    'UTC day on which it was shown, by the clock of the application; the time would tell whose slate it is';
comment on column analytics.click_through_by_slate.model_version is
    'as logged with the impression; unknown if none was logged';
comment on column analytics.click_through_by_slate.requested is 'whether the user made a request in words';
comment on column analytics.click_through_by_slate.items is 'items in the slate, without items logged as null';
comment on column analytics.click_through_by_slate.reactions is 'items with feedback of any type';
comment on column analytics.click_through_by_slate.clicks is 'items with an event of type click';
comment on column analytics.click_through_by_slate.conversions is 'items with an event of type purchase';
comment on column analytics.click_through_by_slate.first_clicked_position is
    'highest position that was clicked (1 is the top); null: none';
comment on column analytics.click_through_by_slate.seconds_to_first_reaction is
    'null: no reaction; negative if the clocks of two applications differ';
