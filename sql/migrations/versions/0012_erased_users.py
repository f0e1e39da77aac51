"""Remember who was erased, by keyed hash, so that a file loaded again does not bring them back."""

from alembic import op

revision = "0012"
down_revision = "0011"

TABLE = """
CREATE TABLE erased_users (
    tombstone text PRIMARY KEY,
    key_id text NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE erased_users IS
    'who was erased, by a keyed hash that occurs nowhere else: their rows are not loaded again';
COMMENT ON COLUMN erased_users.tombstone IS 'keyed hash of the user id; the key is kept elsewhere';
COMMENT ON COLUMN erased_users.key_id IS 'which pseudonym key it was made with';
"""


def upgrade() -> None:
    op.execute(TABLE)
