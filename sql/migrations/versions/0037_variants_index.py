"""Find at once whether a catalogue has variants, so that lists of one that has none look up fewer items."""

from alembic import op

revision = "0037"
down_revision = "0036"

INDEX = "CREATE INDEX items_variants ON items (variant_of) WHERE variant_of IS NOT NULL"


def upgrade() -> None:
    op.execute(INDEX)
