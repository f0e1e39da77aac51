-- Keep a placement that rules name: without it they would silently have no effect. Rules that have ended do not count.
create or replace function serving.check_placement() returns trigger
language plpgsql as $$
declare
    naming text;
begin
    if tg_op = 'UPDATE' and new.placement = old.placement then
        return new;
    end if;
    select string_agg(quote_literal(rules.rule), ', ' order by rules.rule) into naming
    from public.placement_rules as rules
    where old.placement = any (rules.placements) and coalesce(rules.valid_until > statement_timestamp(), true);
    if naming is not null then
        raise exception 'the placement % is named by rules: %', quote_literal(old.placement), naming
            using errcode = 'foreign_key_violation',
                hint = 'Change their column placements, or end them with valid_until, before you rename or delete it.';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;

comment on function serving.check_placement() is 'refuses to rename or delete a placement that rules name';

create or replace trigger check_placement before delete or update of placement on public.placements
for each row execute function serving.check_placement();
