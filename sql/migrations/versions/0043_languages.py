"""Give users their reasons in their language."""

from alembic import op

revision = "0043"
down_revision = "0042"

LANGUAGES = """
CREATE TABLE languages (
    language text PRIMARY KEY,
    is_default boolean NOT NULL DEFAULT false,
    texts jsonb NOT NULL,
    CONSTRAINT languages_tag_check
        CHECK (language ~ '^[a-z]{2,8}(-[a-z0-9]{1,8})*$' AND length(language) <= 35),
    CONSTRAINT languages_one_default EXCLUDE USING btree (is_default WITH =) WHERE (is_default) DEFERRABLE
);
COMMENT ON TABLE languages IS 'texts that users read beside items; users.attributes ->> ''language'' chooses';
COMMENT ON COLUMN languages.language IS 'tag of BCP 47 in lower case, such as de or pt-br';
COMMENT ON COLUMN languages.is_default IS 'of users without a language, or with one that has no row';
COMMENT ON COLUMN languages.texts IS
    'by what they say; did: by event type, and other for all further ones; {title} and the like are filled '
    'in';
"""

# Texts are checked where they are written, so that readers never meet a name that nothing fills in.
CHECK = """
CREATE FUNCTION check_language() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    needed CONSTANT jsonb := '{
        "personal": [], "live": [], "segment": [], "trending": [], "popular": [], "similar": [],
        "together": [], "next": [], "buy_again": [], "new": [], "similar_to": ["title"], "because": ["did"],
        "like": ["did"], "again": ["did"], "also": ["label"], "untitled": ["id"]
    }';
    missing text;
    said record;
    wanted text[];
    named text[];
    hint CONSTANT text :=
        'Start from the texts of another language: SELECT jsonb_pretty(texts) FROM languages.';
BEGIN
    IF jsonb_typeof(NEW.texts) <> 'object' OR jsonb_typeof(NEW.texts -> 'did') IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'texts of % are no object with an object "did"', NEW.language
            USING ERRCODE = 'check_violation', HINT = hint;
    END IF;
    SELECT string_agg(name, ', ' ORDER BY name) INTO missing
    FROM (
        SELECT jsonb_object_keys(needed) EXCEPT SELECT jsonb_object_keys(NEW.texts)
        UNION ALL
        SELECT 'did.other' WHERE NOT NEW.texts -> 'did' ? 'other'
    ) AS absent (name);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '% has no text for %', NEW.language, missing
            USING ERRCODE = 'check_violation', HINT = hint;
    END IF;
    FOR said IN
        SELECT key AS name, value, needed -> key AS names FROM jsonb_each(NEW.texts) WHERE key <> 'did'
        UNION ALL
        SELECT 'did.' || key, value, '["title"]' FROM jsonb_each(NEW.texts -> 'did')
    LOOP
        IF said.names IS NULL THEN
            RAISE EXCEPTION 'nothing says the text % of %', said.name, NEW.language
                USING ERRCODE = 'check_violation', HINT = hint;
        END IF;
        IF jsonb_typeof(said.value) <> 'string' OR length(said.value #>> '{}') NOT BETWEEN 1 AND 500 THEN
            RAISE EXCEPTION 'the text % of % is no string of 1 to 500 characters', said.name, NEW.language
                USING ERRCODE = 'check_violation', HINT = hint;
        END IF;
        wanted := ARRAY(SELECT jsonb_array_elements_text(said.names));
        named := ARRAY(
            SELECT hit.parts[1] FROM regexp_matches(said.value #>> '{}', '\\{([^{}]*)\\}', 'g') AS hit (parts)
        );
        IF said.name IN ('because', 'like') THEN
            named := array_remove(named, 'also');
        END IF;
        IF NOT (named @> wanted AND named <@ wanted) THEN
            RAISE EXCEPTION 'the text % of % names %', said.name, NEW.language,
                CASE WHEN named = '{}' THEN 'nothing' ELSE '{' || array_to_string(named, '}, {') || '}' END
                USING ERRCODE = 'check_violation', HINT =
                    CASE WHEN wanted = '{}' THEN 'Nothing is filled in there: leave out what is in braces.'
                    ELSE 'Name {' || array_to_string(wanted, '}, {') || '} in it, and nothing else in braces.'
                    END;
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION check_language() IS 'refuses texts that lack something or name what nothing fills in';
CREATE TRIGGER check_language BEFORE INSERT OR UPDATE ON languages
    FOR EACH ROW EXECUTE FUNCTION check_language();

CREATE FUNCTION check_default_language() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM languages) AND NOT EXISTS (SELECT FROM languages WHERE is_default) THEN
        RAISE EXCEPTION 'no language is the default' USING ERRCODE = 'check_violation',
            HINT = 'Choose another one first: UPDATE languages SET is_default = (language = ''de'').';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION check_default_language() IS 'keeps one language the default';
CREATE TRIGGER check_default_language AFTER UPDATE OR DELETE ON languages
    FOR EACH STATEMENT EXECUTE FUNCTION check_default_language();

-- The owner of the tables writes them.
DO $$
BEGIN
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        REVOKE INSERT, UPDATE, DELETE ON languages FROM recsys_pipeline;
    END IF;
END $$;
"""

CHOICE = """
CREATE FUNCTION language_of(asked text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE RETURN (
    SELECT language
    FROM languages
    CROSS JOIN LATERAL (
        SELECT coalesce(starts_with(lower(replace(asked, '_', '-')) || '-', language || '-'), false)
    ) AS chosen (fits)
    WHERE fits OR is_default
    ORDER BY fits DESC, length(language) DESC
    LIMIT 1
);
COMMENT ON FUNCTION language_of(text) IS 'the language that a user who asks for this one reads: de for de-AT';
"""

LISTS = """
ALTER TABLE recommendation_lists ADD COLUMN language text NOT NULL DEFAULT 'en';
COMMENT ON COLUMN recommendation_lists.language IS 'of the reasons';
ALTER TABLE staging.staged_lists ADD COLUMN language text NOT NULL DEFAULT 'en';
COMMENT ON COLUMN staging.staged_lists.language IS 'of the reasons';
"""


def upgrade() -> None:
    for statement in (LANGUAGES, CHECK, CHOICE, LISTS):
        op.execute(statement)
