#!/usr/bin/env bash
# Creates the secrets that the manifests and values.yaml name, from a file filled in like .env.example. Safe to
# repeat; running pods see new values after a restart.
#
#   POSTGRES_HOST=postgres.example.com kubernetes/create-secrets.sh .env
#
# Optional variables: POSTGRES_PORT (5432), POSTGRES_PARAMETERS (such as ?sslmode=require), RECSYS_ALERT_WEBHOOK
# (in the file or the environment).
set -euo pipefail
umask 077

file=${1:?the file with the passwords, such as .env}
while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line =~ ^([A-Z_]+)=([^[:space:]]+)[[:space:]]*$ ]]; then
        printf -v "${BASH_REMATCH[1]}" %s "${BASH_REMATCH[2]}"
    fi
done <"$file"

missing=()
for name in POSTGRES_HOST {RECSYS,PIPELINE,PAGE,SERVING,AIRFLOW,MLFLOW}_DATABASE_PASSWORD \
    AIRFLOW_{FERNET_KEY,API_SECRET_KEY,JWT_SECRET,ADMIN_PASSWORD} MLFLOW_{SECRET_KEY,ADMIN_PASSWORD} \
    RECSYS_PSEUDONYM_KEY SERVING_API_KEY; do
    [[ -n ${!name:-} ]] || missing+=("$name")
done
if ((${#missing[@]})); then
    echo "no secret was created: set ${missing[*]} (POSTGRES_HOST in the environment, the others in $file)" >&2
    exit 1
fi

# Values go through files, because everybody on this machine can read command lines.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# secret NAME KEY VALUE [KEY VALUE]...
secret() {
    local name=$1
    mkdir "$folder/$name"
    shift
    while (($#)); do
        printf %s "$2" >"$folder/$name/$1"
        shift 2
    done
    kubectl create secret generic "$name" --namespace recsys --from-file "$folder/$name" --dry-run=client --output yaml |
        kubectl apply --filename -
}

url() {
    local login=$1 password=$2 database=$3
    printf %s "postgresql+psycopg2://$login:$password@$POSTGRES_HOST:${POSTGRES_PORT:-5432}/$database${POSTGRES_PARAMETERS:-}"
}

# Each pod gets the login that it needs and no other. The names are those of docker/postgres/create-databases.sh.
secret warehouse-owner url "$(url recsys "$RECSYS_DATABASE_PASSWORD" recsys)"
secret warehouse-pipeline url "$(url pipeline "$PIPELINE_DATABASE_PASSWORD" recsys)"
secret warehouse-page url "$(url page "$PAGE_DATABASE_PASSWORD" recsys)"
secret warehouse-serving url "$(url serving "$SERVING_DATABASE_PASSWORD" recsys)"
secret airflow-metadata connection "$(url airflow "$AIRFLOW_DATABASE_PASSWORD" airflow)"
secret airflow-keys \
    fernet-key "$AIRFLOW_FERNET_KEY" \
    api-secret-key "$AIRFLOW_API_SECRET_KEY" \
    jwt-secret "$AIRFLOW_JWT_SECRET"
secret airflow-login passwords.json "{\"admin\": \"$AIRFLOW_ADMIN_PASSWORD\"}"
secret mlflow-server \
    backend-store-uri "$(url mlflow "$MLFLOW_DATABASE_PASSWORD" mlflow)" \
    form-key "$MLFLOW_SECRET_KEY"
secret mlflow-login username admin password "$MLFLOW_ADMIN_PASSWORD"
secret pseudonym-key key "$RECSYS_PSEUDONYM_KEY"
secret serving-keys api-keys "[\"$SERVING_API_KEY\"]"
if [[ -n ${RECSYS_ALERT_WEBHOOK:-} ]]; then
    secret alerts RECSYS_ALERT_WEBHOOK "$RECSYS_ALERT_WEBHOOK"
fi
