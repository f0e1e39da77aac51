-- Parameters: upper (transaction id below which all rows are counted).
INSERT INTO feedback_counts_progress (through_transaction_id) VALUES (:upper)
ON CONFLICT ((true)) DO UPDATE
SET through_transaction_id = excluded.through_transaction_id, computed_at = excluded.computed_at
