"""Create the roles of applications, pipeline and analysts, each with the fewest rights that it needs."""

from alembic import op

revision = "0004"
down_revision = "0003"

# Roles belong to the cluster and grants to the database, and a restored dump contains neither. So a
# function creates both, and recsys.warehouse.roles.grant_roles can call it again. A user who may not create
# roles can still migrate: the function returns the missing roles.
ROLES = """
CREATE FUNCTION warehouse_grant_roles() RETURNS text[]
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    role text;
    object text;
    rights text;
    missing text[] := '{}';
    has_maintain boolean := current_setting('server_version_num')::integer >= 170000;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('warehouse_grant_roles', 0));
    FOREACH role IN ARRAY ARRAY['recsys_writer', 'recsys_pipeline', 'recsys_analyst'] LOOP
        BEGIN
            IF to_regrole(role) IS NULL THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;  -- the migration of another database of this cluster was faster
            WHEN insufficient_privilege THEN
                missing := missing || role;
                CONTINUE;
        END;
    END LOOP;
    FOREACH role IN ARRAY ARRAY['recsys_writer', 'recsys_pipeline', 'recsys_analyst'] LOOP
        CONTINUE WHEN role = ANY (missing) OR has_database_privilege(role, current_database(), 'CONNECT');
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;

    -- Functions that anybody may call unless told otherwise. The one that makes partitions runs with its
    -- owner's rights, because only the owner of a table may attach one.
    IF has_schema_privilege('public', 'public', 'CREATE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
    REVOKE ALL ON FUNCTION ensure_feedback_partitions(timestamptz, timestamptz) FROM PUBLIC;
    REVOKE ALL ON FUNCTION warehouse_rebase_transaction_ids() FROM PUBLIC;
    REVOKE ALL ON FUNCTION warehouse_grant_roles() FROM PUBLIC;
    CREATE SCHEMA IF NOT EXISTS analytics;

    IF NOT 'recsys_writer' = ANY (missing) THEN
        GRANT USAGE ON SCHEMA public TO recsys_writer;
        GRANT EXECUTE ON FUNCTION warehouse_transaction_id(), warehouse_transaction_offset() TO recsys_writer;
        -- Feedback and slates: written once and never read. Arrival, order and release are the
        -- warehouse's own columns.
        GRANT INSERT (event_id, user_id, item_id, event_type, value, comment, impression_id, occurred_at)
            ON feedback TO recsys_writer;
        GRANT INSERT (impression_id, user_id, query, item_ids, propensities, model_version, shown_at)
            ON impressions TO recsys_writer;
        GRANT INSERT (user_id) ON erasure_requests TO recsys_writer;
        -- What an application knows best: its catalogue, and who has consented or no longer does.
        GRANT SELECT ON items, event_types TO recsys_writer;
        GRANT INSERT (item_id, title, description, attributes, available),
            UPDATE (title, description, attributes, available) ON items TO recsys_writer;
        GRANT SELECT (user_id), INSERT (user_id, consent, attributes), UPDATE (consent, attributes)
            ON users TO recsys_writer;
        GRANT SELECT ON recommendations, item_vectors TO recsys_writer;
    END IF;

    IF NOT 'recsys_pipeline' = ANY (missing) THEN
        IF NOT has_database_privilege('recsys_pipeline', current_database(), 'TEMPORARY') THEN
            EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO recsys_pipeline', current_database());
        END IF;
        GRANT USAGE ON SCHEMA public, analytics TO recsys_pipeline;
        GRANT SELECT ON
            event_types, items, users, feedback, impressions, windows, quarantine, validation_results,
            snapshots, model_evaluations, promotion_ledger, publications, recommendation_lists,
            recommendations, user_vectors, item_vectors, erasure_requests, erased_feedback, alembic_version
            TO recsys_pipeline;
        GRANT EXECUTE ON FUNCTION
            warehouse_transaction_id(), warehouse_transaction_offset(), warehouse_horizon(),
            ensure_feedback_partitions(timestamptz, timestamptz)
            TO recsys_pipeline;
        GRANT INSERT, UPDATE, DELETE ON
            items, users, feedback, impressions, quarantine, validation_results, snapshots,
            model_evaluations, recommendation_lists, user_vectors, item_vectors
            TO recsys_pipeline;
        -- Evidence: added to, counted and settled, never removed.
        GRANT INSERT, UPDATE ON windows, erasure_requests, erased_feedback TO recsys_pipeline;
        GRANT INSERT ON promotion_ledger, publications TO recsys_pipeline;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO recsys_pipeline;
        IF has_maintain THEN
            EXECUTE 'GRANT MAINTAIN ON feedback, users, items, quarantine TO recsys_pipeline';
            EXECUTE 'GRANT MAINTAIN ON ALL TABLES IN SCHEMA partitions TO recsys_pipeline';
            EXECUTE 'ALTER DEFAULT PRIVILEGES IN SCHEMA partitions GRANT MAINTAIN ON TABLES'
                ' TO recsys_pipeline';
        END IF;
    END IF;
    IF NOT 'recsys_analyst' = ANY (missing) THEN
        GRANT USAGE ON SCHEMA analytics TO recsys_analyst;
    END IF;

    -- Analysts read this schema and nothing else: its views read the tables for whoever reads them.
    FOREACH role IN ARRAY ARRAY['recsys_analyst', 'recsys_pipeline'] LOOP
        CONTINUE WHEN role = ANY (missing);
        rights := 'SELECT';
        IF role = 'recsys_pipeline' AND has_maintain THEN
            rights := 'SELECT, MAINTAIN';
        END IF;
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT %s ON TABLES TO %I', rights, role);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT EXECUTE ON FUNCTIONS TO %I', role);
        FOR object IN
            SELECT oid::regclass::text FROM pg_class
            WHERE relnamespace = 'analytics'::regnamespace AND relkind IN ('v', 'm')
              AND pg_has_role(relowner, 'USAGE')
        LOOP
            EXECUTE format('GRANT %s ON %s TO %I', rights, object, role);
        END LOOP;
        FOR object IN
            SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'analytics'::regnamespace AND pg_has_role(proowner, 'USAGE')
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object, role);
        END LOOP;
    END LOOP;
    RETURN missing;
END $$;
COMMENT ON FUNCTION warehouse_grant_roles() IS
    'make the roles recsys_writer, recsys_pipeline and recsys_analyst and grant them their rights in this '
    'database; returns the roles that are missing because the caller may not create roles';

ALTER FUNCTION ensure_feedback_partitions(timestamptz, timestamptz)
    SECURITY DEFINER SET search_path = public, pg_temp;
"""

# The first version of the function ignored that readers of feedback also store transaction ids.
REBASE = """
CREATE OR REPLACE FUNCTION warehouse_rebase_transaction_ids() RETURNS bigint
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    highest bigint := greatest(
        (SELECT max(transaction_id) FROM feedback),
        (SELECT max(transaction_id) FROM quarantine),
        (SELECT max(transaction_id) FROM erased_feedback),
        (SELECT max(upper_transaction_id) FROM windows),
        (SELECT max(through_transaction_id) FROM publications),
        0
    );
    current_offset bigint := warehouse_transaction_offset();
    shift bigint := greatest(highest + 1 - warehouse_transaction_id(), 0);
BEGIN
    IF shift > 0 THEN
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION warehouse_transaction_offset() RETURNS bigint'
            ' LANGUAGE sql STABLE PARALLEL SAFE RETURN %s::bigint',
            current_offset + shift
        );
    END IF;
    RETURN current_offset + shift;
END $$;
"""


def upgrade() -> None:
    op.execute(ROLES)
    op.execute(REBASE)
    op.execute("SELECT warehouse_grant_roles()")
