#!/usr/bin/env bash
# The Postgres image runs this when its data folder is empty. Creates a database and a role for each service.
set -euo pipefail

create_database() {
    local name=$1 password=$2
    psql --set ON_ERROR_STOP=1 --set name="$name" --set password="$password" \
        --username "$POSTGRES_USER" --dbname postgres <<'SQL'
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke all on database :"name" from public;
SQL
}

# The pipeline, the page and the HTTP service log in with no more rights than they need; `recsys migrate` runs as the owner.
create_login() {
    local name=$1 role=$2 password=$3
    psql --set ON_ERROR_STOP=1 --set name="$name" --set role="$role" --set password="$password" \
        --username "$POSTGRES_USER" --dbname postgres <<'SQL'
create role :"name" login password :'password';
grant :"role" to :"name";
SQL
}

create_database recsys "$RECSYS_DATABASE_PASSWORD"
create_database airflow "$AIRFLOW_DATABASE_PASSWORD"
create_database mlflow "$MLFLOW_DATABASE_PASSWORD"
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname recsys <<'SQL'
create extension if not exists vector;
-- Roles from which applications, pipelines and people inherit their rights. `recsys migrate` grants rights to
-- them, but the owner of the tables may not create roles.
create role recsys_writer nologin;
create role recsys_pipeline nologin;
create role recsys_analyst nologin;
create role recsys_page nologin;
create role recsys_reader nologin;
-- Advisory locks exclude the pipeline's processes from each other, so nobody else may hold one in this database.
do $$
declare
    lock_function text;
begin
    for lock_function in
        select oid::regprocedure::text from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace
            and (starts_with(proname, 'pg_advisory_') or starts_with(proname, 'pg_try_advisory_'))
            and proname not like '%unlock%'
    loop
        execute format('grant execute on function %s to recsys, recsys_pipeline', lock_function);
        execute format('revoke execute on function %s from public', lock_function);
    end loop;
end $$;
SQL
create_login pipeline recsys_pipeline "$PIPELINE_DATABASE_PASSWORD"
create_login page recsys_page "$PAGE_DATABASE_PASSWORD"
create_login serving recsys_writer "$SERVING_DATABASE_PASSWORD"
