-- Delete the days of arrival that are to be counted anew.
DELETE FROM feedback_lag_by_day WHERE arrival_day IN (SELECT arrival_day FROM changed_arrival_days)
