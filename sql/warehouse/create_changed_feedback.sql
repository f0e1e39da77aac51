-- Temporary tables of one count of feedback: whose is new or was changed, which days of arrival are to be counted, and
-- which transactions each promoted version was the first to read.
CREATE TEMPORARY TABLE changed_people (user_id text) ON COMMIT DROP;
CREATE TEMPORARY TABLE changed_arrival_days (
    arrival_day date, first_transaction_id bigint, last_transaction_id bigint
) ON COMMIT DROP;
CREATE TEMPORARY TABLE first_reads (
    lower bigint, upper bigint, opened_at timestamptz, decided_at timestamptz, published_at timestamptz,
    digest bigint
) ON COMMIT DROP;
