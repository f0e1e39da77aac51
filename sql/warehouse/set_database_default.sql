-- Set a default for all sessions of this database, unless it has one. Nothing happens if this user may not.
-- Parameters: name, value.
SELECT set_config('recsys.default_name', :name, true), set_config('recsys.default_value', :value, true);
DO $$
DECLARE
    name text := current_setting('recsys.default_name');
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_db_role_setting AS stored, unnest(stored.setconfig) AS setting
        WHERE stored.setrole = 0
            AND stored.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND starts_with(setting, name || '=')
    ) THEN
        EXECUTE format(
            'ALTER DATABASE %I SET %I = %L', current_database(), name, current_setting('recsys.default_value')
        );
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        NULL;
END $$
