-- Settings of this session by which the server's log would show values of rows, with the setting that would not.
SELECT name, setting, wanted
FROM pg_settings
JOIN (
    VALUES
        -- LOG ranks above ERROR in the server's log.
        ('log_min_messages', ARRAY['log', 'fatal', 'panic'], 'log'),
        ('log_min_error_statement', ARRAY['fatal', 'panic'], 'panic'),
        ('log_error_verbosity', ARRAY['terse'], 'terse'),
        ('log_statement', ARRAY['none', 'ddl'], 'none'),
        ('log_min_duration_statement', ARRAY['-1'], '-1'),
        ('log_min_duration_sample', ARRAY['-1'], '-1'),
        ('log_transaction_sample_rate', ARRAY['0'], '0'),
        -- Exist only where the extension is loaded.
        ('auto_explain.log_min_duration', ARRAY['-1'], '-1'),
        ('pgaudit.log', ARRAY['none', '', 'ddl', 'role'], 'none')
) AS safe (name, settings, wanted) USING (name)
WHERE NOT setting = ANY (settings)
ORDER BY name
