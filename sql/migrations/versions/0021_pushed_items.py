"""Find what came before on an item, and let a rule name rows of earlier windows."""

from alembic import op

revision = "0021"
down_revision = "0020"

# The rule pushed_by_newcomers reads the latest feedback on a window's items, and what it took out before.
INDEXES = """
CREATE INDEX feedback_item ON feedback (item_id, occurred_at);
CREATE INDEX quarantine_pushed ON quarantine (transaction_id) WHERE 'pushed_by_newcomers' = ANY (reasons);
"""

VIOLATIONS = """
ALTER TABLE row_violations ADD COLUMN earlier_transaction_id bigint;
COMMENT ON COLUMN row_violations.earlier_transaction_id IS
    'of a row of an earlier window; null: of this window';
"""


def upgrade() -> None:
    for script in (INDEXES, VIOLATIONS):
        op.execute(script)
