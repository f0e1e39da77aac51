"""Create erasure requests with receipts, and the counts with which windows still reconcile."""

from alembic import op

revision = "0003"
down_revision = "0002"

ERASURE = """
CREATE TABLE erasure_requests (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text,
    user_key text,
    status text NOT NULL DEFAULT 'requested',
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz,
    receipt jsonb,
    CONSTRAINT erasure_requests_status_check CHECK (status IN ('requested', 'done'))
);
COMMENT ON TABLE erasure_requests IS
    'requests to forget a user and the receipts, which do not name the person';
COMMENT ON COLUMN erasure_requests.user_id IS 'null once done: the receipt does not name the person';
COMMENT ON COLUMN erasure_requests.receipt IS 'rows removed per table, files rewritten';

CREATE TABLE erased_feedback (
    request_id bigint NOT NULL REFERENCES erasure_requests (request_id),
    transaction_id bigint NOT NULL,
    rows integer NOT NULL,
    PRIMARY KEY (request_id, transaction_id)
);
COMMENT ON TABLE erased_feedback IS
    'how many rows an erasure took from which transaction, so that windows reconcile';
"""


def upgrade() -> None:
    op.execute(ERASURE)
