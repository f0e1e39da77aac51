#!/usr/bin/env bash
# Runs `mlflow server` with logins. MLflow's authentication reads the address of its database from a file, which
# this script writes for the container. Options are those of `mlflow server`.
set -euo pipefail
umask 077

MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
# Users that the administrator adds may look at everything and change nothing. The cache saves hashing the
# password at every request. In this file % is written %%.
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
auth_cache_ttl_seconds = 60
INI
exec mlflow server --app-name=basic-auth "$@"
