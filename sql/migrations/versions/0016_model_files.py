"""Keep the digests of every model version's files where nobody who may write to MLflow can change them."""

from alembic import op

revision = "0016"
down_revision = "0015"

TABLE = """
CREATE TABLE model_files (
    model_files_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id text UNIQUE,
    model_version text UNIQUE,
    run_key text,
    files jsonb,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT model_files_name_check CHECK (model_id IS NOT NULL OR model_version IS NOT NULL)
);
COMMENT ON TABLE model_files IS
    'sha256 of every file of every model version as registered; a version is loaded only if they match';
COMMENT ON COLUMN model_files.model_id IS 'MLflow''s id of the model; null: not looked at since the upgrade';
COMMENT ON COLUMN model_files.model_version IS 'null until the registration is complete';
COMMENT ON COLUMN model_files.run_key IS 'training run that made it; null: registered by an earlier release';
COMMENT ON COLUMN model_files.files IS
    '{"path": "sha256"}; null: registered by an earlier release, the first use records them';
"""

# Versions of earlier releases have no digests. Those that the ledger knows are trusted at their first use,
# others are not.
EARLIER = """
INSERT INTO model_files (model_version) SELECT DISTINCT model_version FROM promotion_ledger
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(EARLIER)
