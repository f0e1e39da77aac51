-- Count the events written by this transaction whose id is in quarantine.
SELECT count(*)
FROM feedback
JOIN quarantine ON quarantine.feedback ->> 'event_id' = feedback.event_id
WHERE feedback.transaction_id = warehouse_transaction_id()
