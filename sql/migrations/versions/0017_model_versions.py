"""Record what each model version was trained on, to find the versions that know an erased user."""

from alembic import op

revision = "0017"
down_revision = "0016"

VERSIONS = """
CREATE TABLE model_versions (
    model_version text PRIMARY KEY,
    kind text NOT NULL,
    parent text,
    run_key text,
    base_transaction_id bigint NOT NULL,
    trained_transaction_id bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    files_removed_at timestamptz,
    CONSTRAINT model_versions_kind_check CHECK (kind IN ('full', 'micro'))
);
COMMENT ON TABLE model_versions IS 'registered model versions and what each was trained on';
COMMENT ON COLUMN model_versions.parent IS 'the version that it updates; null: a full fine-tune';
COMMENT ON COLUMN model_versions.run_key IS 'the run that trained it; null: unknown';
COMMENT ON COLUMN model_versions.base_transaction_id IS
    'upper bound, exclusive, of what the full fine-tune that it descends from was trained on';
COMMENT ON COLUMN model_versions.trained_transaction_id IS
    'upper bound, exclusive, of what it was trained on itself';
COMMENT ON COLUMN model_versions.files_removed_at IS
    'when its files were removed because it knew erased users';
"""

# A version whose training ended at transaction id x can know a user whose first event is below x and whose
# request to be erased is at or above x: every snapshot leaves out whoever asked before its window was opened.
REQUESTS = """
ALTER TABLE erasure_requests
    ADD COLUMN transaction_id bigint NOT NULL DEFAULT warehouse_transaction_id(),
    ADD COLUMN first_transaction_id bigint;
COMMENT ON COLUMN erasure_requests.transaction_id IS
    'of the transaction that made the request; windows that end above it leave the user out';
COMMENT ON COLUMN erasure_requests.first_transaction_id IS
    'of the first feedback that was erased; null: none was';

-- Windows that were opened before the erasure was done may have ended below the request.
UPDATE erasure_requests AS request SET
    transaction_id = coalesce(
        (SELECT max(upper_transaction_id) FROM windows WHERE windows.opened_at <= request.done_at), 0
    ),
    first_transaction_id = (
        SELECT min(erased.transaction_id) FROM erased_feedback AS erased
        WHERE erased.request_id = request.request_id
    )
WHERE status = 'done';

CREATE INDEX erasure_requests_order ON erasure_requests (transaction_id, requested_at)
    INCLUDE (first_transaction_id);
"""

# The ids of requests are recorded too.
REBASE = """
CREATE OR REPLACE FUNCTION warehouse_rebase_transaction_ids() RETURNS bigint
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    highest bigint := greatest(
        (SELECT max(transaction_id) FROM feedback),
        (SELECT max(transaction_id) FROM quarantine),
        (SELECT max(transaction_id) FROM erased_feedback),
        (SELECT max(transaction_id) FROM erasure_requests),
        (SELECT max(upper_transaction_id) FROM windows),
        (SELECT max(through_transaction_id) FROM publications),
        0
    );
    current_offset bigint := warehouse_transaction_offset();
    shift bigint := greatest(highest + 1 - warehouse_transaction_id(), 0);
BEGIN
    IF shift > 0 THEN
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION warehouse_transaction_offset() RETURNS bigint'
            ' LANGUAGE sql STABLE PARALLEL SAFE RETURN %s::bigint',
            current_offset + shift
        );
    END IF;
    RETURN current_offset + shift;
END $$;
"""


def upgrade() -> None:
    op.execute(VERSIONS)
    op.execute(REQUESTS)
    op.execute(REBASE)
