-- Parameters: first_day, last_day (both in the range).
DELETE FROM slates_by_day WHERE day BETWEEN CAST(:first_day AS date) AND CAST(:last_day AS date)
