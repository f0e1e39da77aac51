"""Give impressions the id of the transaction that wrote them, as feedback has it."""

from alembic import op

revision = "0045"
down_revision = "0044"

# A constant default is stored once and rewrites no row. Building the index reads the rows, and whoever logs
# slates waits for it.
COLUMN = """
ALTER TABLE impressions ADD COLUMN transaction_id bigint NOT NULL DEFAULT 0;
ALTER TABLE impressions ALTER COLUMN transaction_id SET DEFAULT warehouse_transaction_id();
CREATE INDEX impressions_transaction_id ON impressions (transaction_id);
COMMENT ON COLUMN impressions.transaction_id IS 'of the writer; 0: written before impressions had it';
"""

REBASE = """
CREATE OR REPLACE FUNCTION warehouse_rebase_transaction_ids() RETURNS bigint
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    highest bigint := greatest(
        (SELECT max(transaction_id) FROM feedback),
        (SELECT max(transaction_id) FROM impressions),
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
    op.execute(COLUMN)
    op.execute(REBASE)
