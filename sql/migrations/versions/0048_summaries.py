"""Keep texts that a language model wrote about lists and items, and templates for all others."""

from alembic import op

revision = "0048"
down_revision = "0047"

TABLES = """
CREATE TABLE list_summaries (
    user_id text PRIMARY KEY REFERENCES recommendation_lists ON DELETE CASCADE,
    publication_id bigint NOT NULL,
    source_digest text NOT NULL,
    content_digest text NOT NULL,
    language text NOT NULL,
    summary text,
    refusal text,
    model text NOT NULL,
    licence text NOT NULL,
    prompt_version integer NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT list_summaries_check CHECK ((summary IS NULL) <> (refusal IS NULL))
);
CREATE INDEX list_summaries_content ON list_summaries (content_digest);
COMMENT ON TABLE list_summaries IS
    'what a language model wrote about users'' lists; read serving.summary';
COMMENT ON COLUMN list_summaries.publication_id IS 'of the list when it was last looked at';
COMMENT ON COLUMN list_summaries.source_digest IS
    'of the first items, titles and reasons; while they are shown, the text is';
COMMENT ON COLUMN list_summaries.content_digest IS
    'of what the model was told, its name, the prompt and the language; the same is written once';
COMMENT ON COLUMN list_summaries.refusal IS 'why the text was refused; null: it was not';
COMMENT ON COLUMN list_summaries.model IS 'who wrote it';
COMMENT ON COLUMN list_summaries.licence IS 'of the model';
COMMENT ON COLUMN list_summaries.prompt_version IS 'how it was asked';

CREATE TABLE item_summaries (
    item_id text NOT NULL REFERENCES item_phrases ON DELETE CASCADE,
    language text NOT NULL,
    source_digest text NOT NULL,
    summary text,
    refusal text,
    model text NOT NULL,
    licence text NOT NULL,
    prompt_version integer NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, language),
    CONSTRAINT item_summaries_check CHECK ((summary IS NULL) <> (refusal IS NULL))
);
COMMENT ON TABLE item_summaries IS
    'what a language model wrote about the comments on items; read serving.item_summary';
COMMENT ON COLUMN item_summaries.source_digest IS 'of title and phrases; while they stay, the text is shown';
COMMENT ON COLUMN item_summaries.refusal IS 'why the text was refused; null: it was not';
COMMENT ON COLUMN item_summaries.model IS 'who wrote it';
COMMENT ON COLUMN item_summaries.licence IS 'of the model';
COMMENT ON COLUMN item_summaries.prompt_version IS 'how it was asked';
"""

# The check of texts gets those of summaries.
TEXTS = """
DO $$
DECLARE
    before CONSTANT text := pg_get_functiondef('check_language()'::regprocedure);
    after CONSTANT text := replace(
        before,
        '"untitled": ["id"]',
        '"untitled": ["id"], "summary": ["reason", "titles"], "praised": ["phrases"], '
        '"criticised": ["phrases"], "separator": [], "openers": []'
    );
BEGIN
    IF before = after THEN
        RAISE EXCEPTION 'check_language() is not that of migration 0043';
    END IF;
    EXECUTE after;
END $$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(TEXTS)
