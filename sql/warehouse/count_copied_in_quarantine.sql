-- How many events that this transaction has written are in quarantine, by their id.
SELECT count(*)
FROM feedback
JOIN quarantine ON quarantine.feedback ->> 'event_id' = feedback.event_id
WHERE feedback.transaction_id = warehouse_transaction_id()
