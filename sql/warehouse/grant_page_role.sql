-- Let the role of the Recommender page read what the page shows.
DO $$
BEGIN
    IF to_regrole('recsys_page') IS NULL OR to_regclass('validation_results') IS NULL THEN
        RETURN;
    END IF;
    IF NOT has_database_privilege('recsys_page', current_database(), 'CONNECT') THEN
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO recsys_page', current_database());
    END IF;
    GRANT USAGE ON SCHEMA public, analytics TO recsys_page;
    GRANT SELECT ON windows, validation_results TO recsys_page;
    GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO recsys_page;
    ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT ON TABLES TO recsys_page;
END $$
