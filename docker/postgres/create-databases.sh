#!/usr/bin/env bash
# Run by the Postgres image when its data folder is empty: a database and a role for each of the three.
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
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname recsys --command "create extension if not exists vector"
