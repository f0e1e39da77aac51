"""Keep lists of items in their page and uncompressed, as the lists of users are."""

from alembic import op

revision = "0034"
down_revision = "0033"

# The table is written anew every day.
LISTS = "ALTER TABLE item_lists SET (toast_tuple_target = 8160)"

# The function has another name now.
COMMENT = """
COMMENT ON COLUMN model_versions.live_strength IS
    'by how much a standard deviation of what goes with a user''s latest reactions outweighs the published '
    'place; null: the model has none, see serving.fitted_weights'
"""


def upgrade() -> None:
    op.execute(LISTS)
    op.execute(COMMENT)
