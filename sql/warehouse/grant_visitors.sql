-- Let applications write feedback and slates of sessions, join a session at login and state its consent. Does nothing
-- before the migration or without the role. A restored dump contains no grants, so this runs again after a restore.
DO $$
BEGIN
    IF to_regprocedure('join_session(text, text)') IS NULL THEN
        RETURN;
    END IF;
    IF to_regrole('recsys_writer') IS NOT NULL THEN
        GRANT INSERT (session_id) ON feedback, impressions TO recsys_writer;
        GRANT EXECUTE ON FUNCTION
            user_of(text), join_session(text, text), set_session_consent(text, boolean)
            TO recsys_writer;
    END IF;
    IF to_regrole('recsys_pipeline') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION user_of(text) TO recsys_pipeline;
    END IF;
END $$
