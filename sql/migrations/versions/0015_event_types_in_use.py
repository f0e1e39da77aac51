"""Refuse to remove or rename an event type while there is feedback of it."""

from alembic import op

revision = "0015"
down_revision = "0014"

# Feedback has no foreign key, because rows of unknown types must arrive to be quarantined. Without its type
# an old event would leave the training data unnoticed and hide its item for ever. The scan ends at the first
# row that it finds.
TRIGGER = """
CREATE FUNCTION event_types_in_use() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM feedback WHERE event_type = OLD.event_type)
        OR EXISTS (SELECT FROM retired.feedback WHERE event_type = OLD.event_type) THEN
        RAISE EXCEPTION 'event type "%" cannot be removed or renamed: there is feedback of it', OLD.event_type
            USING ERRCODE = 'foreign_key_violation',
            HINT = 'To make its events count for nothing, set its weight and hide_days to 0.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
COMMENT ON FUNCTION event_types_in_use() IS 'refuses to remove an event type while there is feedback of it';

CREATE TRIGGER event_types_in_use BEFORE DELETE ON event_types
    FOR EACH ROW EXECUTE FUNCTION event_types_in_use();
CREATE TRIGGER event_types_keep_their_name BEFORE UPDATE OF event_type ON event_types
    FOR EACH ROW WHEN (OLD.event_type IS DISTINCT FROM NEW.event_type)
    EXECUTE FUNCTION event_types_in_use();
"""


def upgrade() -> None:
    op.execute(TRIGGER)
