-- Refuse rules that cannot mean what they say, and keep their filters as predicates, so that reading does not translate
-- them. What may still come true is only a warning: a rule may be written before its items are.
create or replace function serving.check_rule() returns trigger
language plpgsql as $$
declare
    wrong text;
    remedy text;
    unknown text;
begin
    if btrim(new.rule) = '' then
        wrong := 'has no name';
        remedy := 'Name it after what it is for, such as ''summer sale''.';
    elsif new.kind not in ('exclude', 'only', 'pin', 'at_most', 'at_least', 'boost', 'bury') then
        wrong := format('has the kind %L', new.kind);
        remedy := 'Choose exclude, only, pin, at_most, at_least, boost or bury.';
    elsif new.valid_until <= new.valid_from then
        wrong := format('ends at %s, but starts at %s', new.valid_until, new.valid_from);
        remedy := 'Let valid_until be later than valid_from, or null for a rule that does not end.';
    elsif new.placements = '{}' then
        wrong := 'holds in no placement';
        remedy := 'Name placements, or let placements be null for all of them.';
    elsif exists (select from unnest(new.placements) as named (placement) where placement is null) then
        wrong := 'names NULL as a placement';
        remedy := 'Name placements, or let placements be null for all of them.';
    elsif new.filter is not null and new.item_ids is not null then
        wrong := 'has both a filter and item_ids';
        remedy := 'Say with one of them which items it is about; write two rules for both.';
    elsif new.kind = 'pin' and new.item_ids is null then
        wrong := 'pins no items';
        remedy := 'Name them in item_ids, the first one first.';
    elsif new.item_ids is null and coalesce(new.filter, '{}') = '{}'
        and not (new.kind = 'at_most' and new.attribute is not null)
    then
        wrong := 'is about all items';
        remedy := 'Say with a filter or with item_ids which items it is about.';
    elsif cardinality(new.item_ids) = 0 or array_position(new.item_ids, null) is not null then
        wrong := 'has item_ids that are empty or hold NULL';
        remedy := 'Name at least one item.';
    elsif (new.position is not null) <> (new.kind = 'pin') or new.position not between 1 and 1000 then
        wrong := format('of the kind %s has the position %s', new.kind, coalesce(new.position::text, 'NULL'));
        remedy := 'A pin has a position from 1 to 1000; other kinds have none.';
    elsif (new.factor is not null) <> (new.kind in ('boost', 'bury')) or new.factor <= 1 or new.factor > 1000 then
        wrong := format('of the kind %s has the factor %s', new.kind, coalesce(new.factor::text, 'NULL'));
        remedy := 'A boost or bury has a factor above 1, at most 1000: bury pushes down; other kinds have none.';
    elsif (new.number is not null) <> (new.kind in ('at_most', 'at_least')) or new.number not between 1 and 1000 then
        wrong := format('of the kind %s has the number %s', new.kind, coalesce(new.number::text, 'NULL'));
        remedy := 'at_most and at_least have a number from 1 to 1000; other kinds have none. For 0 write an exclude rule.';
    elsif new.attribute is not null and new.kind <> 'at_most' then
        wrong := format('of the kind %s has the attribute %s', new.kind, to_json(new.attribute));
        remedy := 'Only at_most counts by the values of an attribute; other kinds have a filter.';
    end if;
    if wrong is not null then
        raise exception 'the rule % %', quote_literal(new.rule), wrong
            using errcode = 'check_violation', hint = remedy;
    end if;
    -- Until this transaction ends, nobody renames or deletes them.
    perform from public.placements where placements.placement = any (new.placements) order by placements.placement
    for key share;
    select string_agg(quote_literal(named.placement), ', ') into unknown
    from unnest(new.placements) as named (placement)
    where not exists (select from public.placements where placements.placement = named.placement);
    if unknown is not null then
        raise exception 'the rule % holds in placements that do not exist: %', quote_literal(new.rule), unknown
            using errcode = 'check_violation',
                hint = 'Add them to the table placements, or name some of: '
                || (select string_agg(placements.placement, ', ' order by placements.placement) from public.placements);
    end if;
    new.item_path := serving.filter_path(new.filter);
    new.audience_path := serving.filter_path(new.audience);
    if tg_op = 'INSERT' or (new.filter, new.item_ids, new.attribute) is distinct from
        (old.filter, old.item_ids, old.attribute)
    then
        select string_agg(to_json(named.attribute)::text, ', ') into unknown
        from (
            select jsonb_object_keys(new.filter)
            union select new.attribute where new.attribute is not null
        ) as named (attribute)
        where not exists (select from public.items where items.attributes ? named.attribute);
        if unknown is not null then
            raise warning 'the rule % is about attributes that no item has: %', quote_literal(new.rule), unknown
                using hint = 'Compare with the names in items.attributes.';
        end if;
        select count(*) into unknown
        from unnest(new.item_ids) as named (item_id)
        where not exists (select from public.items where items.item_id = named.item_id);
        if unknown::bigint > 0 then
            raise warning 'the rule % names % items that do not exist', quote_literal(new.rule), unknown
                using hint = 'They count as soon as they are in the table items.';
        end if;
    end if;
    return new;
end $$;

comment on function serving.check_rule() is 'refuses rows of placement_rules that make no sense, and says why';

create or replace trigger check_rule before insert or update on public.placement_rules
for each row execute function serving.check_rule();
