"""Store lists with what is shown of them, and note which items have changed since."""

from alembic import op

revision = "0026"
down_revision = "0025"

LISTS = """
ALTER TABLE recommendation_lists
    ADD COLUMN titles text[] NOT NULL DEFAULT '{}',
    ADD COLUMN available_until timestamptz,
    ADD CONSTRAINT recommendation_lists_titles_check
        CHECK (cardinality(titles) IN (0, cardinality(item_ids)));
COMMENT ON COLUMN recommendation_lists.titles IS
    'of the items of the list; empty: a release that stored none has published it';
COMMENT ON COLUMN recommendation_lists.available_until IS
    'when the first of the items from which the list is drawn ceases to be available; null: none does';
"""

CHANGES = """
CREATE TABLE item_changes (
    item_id text NOT NULL,
    transaction_id bigint NOT NULL DEFAULT warehouse_transaction_id()
);
CREATE INDEX item_changes_item ON item_changes (item_id, transaction_id);
COMMENT ON TABLE item_changes IS
    'items whose title, availability or group has changed, or which were deleted, since the lists of all '
    'users were published: a list without them is shown as it is stored';
COMMENT ON COLUMN item_changes.transaction_id IS 'of the change';
"""

# Whoever changes an item needs no right on the table.
TRIGGERS = """
CREATE FUNCTION note_item_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO item_changes (item_id) VALUES (OLD.item_id);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_item_change() FROM PUBLIC;
CREATE TRIGGER note_item_change AFTER UPDATE ON items
    FOR EACH ROW WHEN (
        (OLD.item_id, OLD.title, OLD.available, OLD.available_from, OLD.available_until, OLD.variant_of)
        IS DISTINCT FROM
        (NEW.item_id, NEW.title, NEW.available, NEW.available_from, NEW.available_until, NEW.variant_of)
    )
    EXECUTE FUNCTION note_item_change();
CREATE TRIGGER note_item_deletion AFTER DELETE ON items
    FOR EACH ROW EXECUTE FUNCTION note_item_change();

CREATE FUNCTION note_all_items_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO item_changes (item_id) SELECT items.item_id FROM items;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_all_items_change() FROM PUBLIC;
CREATE TRIGGER note_truncation BEFORE TRUNCATE ON items
    FOR EACH STATEMENT EXECUTE FUNCTION note_all_items_change();
"""


def upgrade() -> None:
    for script in (LISTS, CHANGES, TRIGGERS):
        op.execute(script)
