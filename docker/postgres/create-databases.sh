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
SQL
