-- Note whose feedback is new or was changed, in a temporary table of the transaction.
-- Parameters: lower (transaction id of new rows, inclusive).
WITH noted AS (
    DELETE FROM changed_feedback WHERE user_id IS NOT NULL RETURNING user_id
)

INSERT INTO changed_people (user_id)
SELECT user_id FROM noted
UNION
SELECT user_id FROM feedback WHERE transaction_id >= :lower
