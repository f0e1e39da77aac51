"""Let feedback name a session instead of a user, and join the session to a user at login."""

from alembic import op

revision = "0022"
down_revision = "0021"

COLUMNS = """
ALTER TABLE users
    ADD COLUMN kind text NOT NULL DEFAULT 'user',
    ADD COLUMN joined_to text,
    ADD COLUMN joined_transaction_id bigint,
    ADD CONSTRAINT users_kind_check CHECK (kind IN ('user', 'visitor')),
    ADD CONSTRAINT users_only_visitors_join CHECK (joined_to IS NULL OR kind = 'visitor');
CREATE INDEX users_joined ON users (joined_to) WHERE joined_to IS NOT NULL;
CREATE INDEX users_joined_since ON users (joined_transaction_id) WHERE joined_to IS NOT NULL;
COMMENT ON COLUMN users.kind IS 'user; visitor: a session of somebody who is not registered';
COMMENT ON COLUMN users.joined_to IS 'the user to whom the visitor''s session belongs since a login';
COMMENT ON COLUMN users.joined_transaction_id IS 'of the transaction that joined them';

ALTER TABLE feedback ADD COLUMN session_id text;
COMMENT ON COLUMN feedback.session_id IS 'of somebody who is not registered; instead of user_id';
ALTER TABLE retired.feedback ADD COLUMN session_id text;
ALTER TABLE impressions ADD COLUMN session_id text;
COMMENT ON COLUMN impressions.session_id IS 'of somebody who is not registered; instead of user_id';
"""

# A visitor's id follows from the session's. So a row of a new session needs no other row: writers of one
# session do not wait for each other, and cannot deadlock. The pipeline adds visitors to users.
NAMES = """
CREATE FUNCTION visitor_id(session_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'visitor:' || session_id;
COMMENT ON FUNCTION visitor_id(text) IS 'user id of the visitor of a session that nobody has joined';

CREATE FUNCTION user_of(session_id text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(
        (SELECT users.joined_to FROM users WHERE users.user_id = visitor_id(user_of.session_id)),
        visitor_id(user_of.session_id)
    )
$$;
COMMENT ON FUNCTION user_of(text) IS
    'user id that feedback of a session has: the user who joined it, or its visitor';
REVOKE ALL ON FUNCTION user_of(text) FROM PUBLIC;

-- The query of user_of once more, because a call of that function would cost as much as the row.
CREATE FUNCTION name_user_of_session() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    NEW.user_id := visitor_id(NEW.session_id);
    NEW.user_id := coalesce(
        (SELECT users.joined_to FROM users WHERE users.user_id = NEW.user_id), NEW.user_id
    );
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION name_user_of_session() FROM PUBLIC;
CREATE TRIGGER name_user_of_session BEFORE INSERT ON feedback
    FOR EACH ROW WHEN (NEW.user_id IS NULL AND NEW.session_id IS NOT NULL)
    EXECUTE FUNCTION name_user_of_session();
CREATE TRIGGER name_user_of_session BEFORE INSERT ON impressions
    FOR EACH ROW WHEN (NEW.user_id IS NULL AND NEW.session_id IS NOT NULL)
    EXECUTE FUNCTION name_user_of_session();
"""


# What programs write when they have no id. Their rows would otherwise be one visitor who did everything.
MISSING = """
CREATE FUNCTION is_missing_session(session_id text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN lower(btrim(session_id, E' \\t\\n\\r')) IN (
        '', '-', 'null', 'none', 'nil', 'nan', 'na', 'n/a', 'undefined', 'unknown', 'anonymous', '(not set)',
        '00000000-0000-0000-0000-000000000000'
    );
COMMENT ON FUNCTION is_missing_session(text) IS
    'whether a session id says that there is none; feedback with it is quarantined as unknown_user';
"""

# The join takes no advisory lock, because validation may hold those for minutes and a login must not wait
# for it. It changes rows that are committed. A row that is being written meanwhile still gets the visitor's
# id, and the validation of its window gives it to the user (sql/warehouse/give_rows_to_users.sql).
JOIN = """
CREATE FUNCTION join_session(session_id text, user_id text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    visitor text := visitor_id(join_session.session_id);
    owner text;
    moved bigint;
BEGIN
    IF join_session.session_id IS NULL OR is_missing_session(join_session.session_id) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'the session has no id',
            HINT = 'Call join_session with the id that feedback of the session carries.';
    END IF;
    -- Until this transaction ends, the user is not erased: an erasure then finds the session.
    PERFORM FROM users
    WHERE users.user_id = join_session.user_id AND users.kind = 'user'
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'the session cannot be joined: the user is not in the table users',
            HINT = 'Add the user to users first.';
    END IF;
    INSERT INTO users AS visitors (user_id, kind, joined_to, joined_transaction_id)
    VALUES (visitor, 'visitor', join_session.user_id, warehouse_transaction_id())
    ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE
    SET kind = 'visitor',
        joined_to = excluded.joined_to,
        joined_transaction_id = excluded.joined_transaction_id
    WHERE visitors.joined_to IS NULL;
    IF NOT FOUND THEN
        SELECT users.joined_to INTO owner FROM users WHERE users.user_id = visitor;
        IF owner <> join_session.user_id THEN
            RAISE unique_violation USING
                MESSAGE = 'the session cannot be joined: it belongs to another user since an earlier login',
                HINT = 'Give the browser a new session id at every logout.';
        END IF;
    END IF;
    -- What the visitor has asked to erase is erased, whoever logs in before that is done.
    IF EXISTS (
        SELECT FROM erasure_requests AS requests
        WHERE requests.user_id = visitor AND requests.status = 'requested'
    ) THEN
        RETURN 0;
    END IF;
    -- A statement that waits while rows move between partitions would look for them in the old one.
    LOCK TABLE feedback IN ROW EXCLUSIVE MODE;
    UPDATE feedback SET user_id = join_session.user_id WHERE feedback.user_id = visitor;
    GET DIAGNOSTICS moved = ROW_COUNT;
    UPDATE retired.feedback AS old SET user_id = join_session.user_id WHERE old.user_id = visitor;
    UPDATE quarantine
    SET user_id = join_session.user_id,
        feedback = jsonb_set(quarantine.feedback, '{user_id}', to_jsonb(join_session.user_id))
    WHERE quarantine.user_id = visitor;
    UPDATE noisy_feedback SET user_id = join_session.user_id WHERE noisy_feedback.user_id = visitor;
    UPDATE impressions SET user_id = join_session.user_id WHERE impressions.user_id = visitor;
    DELETE FROM recommendation_lists AS lists WHERE lists.user_id = visitor;
    DELETE FROM user_vectors AS vectors WHERE vectors.user_id = visitor;
    RETURN moved;
END $$;
COMMENT ON FUNCTION join_session(text, text) IS
    'give the history of a session to the user who has logged in; call it at every login; returns the events '
    'that moved';
REVOKE ALL ON FUNCTION join_session(text, text) FROM PUBLIC;
CREATE INDEX quarantine_user ON quarantine (user_id);
CREATE INDEX erasure_requests_open ON erasure_requests (user_id) WHERE status = 'requested';
"""

CONSENT = """
CREATE FUNCTION set_session_consent(session_id text, consent boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF session_id IS NULL OR is_missing_session(session_id) OR consent IS NULL THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'the session has no id, or the consent is null',
            HINT = 'Call it with the id that feedback of the session carries, and true or false.';
    END IF;
    INSERT INTO users AS visitors (user_id, kind, consent)
    VALUES (visitor_id(session_id), 'visitor', set_session_consent.consent)
    ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE SET consent = excluded.consent;
    -- Whoever has joined the session decides for themselves; a refusal counts all the same.
    UPDATE users AS joined SET consent = false
    FROM users AS visitors
    WHERE visitors.user_id = visitor_id(session_id)
        AND joined.user_id = visitors.joined_to
        AND joined.consent
        AND NOT set_session_consent.consent;
END $$;
COMMENT ON FUNCTION set_session_consent(text, boolean) IS
    'say whether the visitor of a session consents to training; of a joined session only a refusal counts';
REVOKE ALL ON FUNCTION set_session_consent(text, boolean) FROM PUBLIC;
"""

ELIGIBILITY = """
CREATE OR REPLACE VIEW user_eligibility WITH (security_invoker = true) AS
SELECT
    user_id,
    user_key,
    consent
    AND joined_to IS NULL
    AND users.user_id <> ALL (ARRAY(SELECT user_id FROM erasure_requests WHERE user_id IS NOT NULL))
        AS may_train
FROM users;
COMMENT ON VIEW user_eligibility IS
    'whose feedback may be trained on: who consents, has not asked to be forgotten, and is not a visitor who '
    'became a user';
"""


def upgrade() -> None:
    for script in (COLUMNS, NAMES, MISSING, JOIN, CONSENT, ELIGIBILITY):
        op.execute(script)
