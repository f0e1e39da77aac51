-- Rows of a window that the row rules judge, called the batch in rules: the columns of feedback, what the event type
-- means, and whether user, item and type are known. Rows that a person released from quarantine are left out. A join
-- whose columns a rule does not use costs nothing, because Postgres removes it.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT
    feedback.*,
    event_types.explicit,
    event_types.polarity,
    event_types.min_value,
    event_types.max_value,
    event_types.value_is_amount,
    event_types.event_type IS NOT NULL AS type_is_known,
    items.item_id IS NOT NULL AS item_is_known,
    users.user_id IS NOT NULL AS user_is_known
FROM feedback
LEFT JOIN event_types ON event_types.event_type = feedback.event_type
LEFT JOIN items ON items.item_id = feedback.item_id
LEFT JOIN users ON users.user_id = feedback.user_id
WHERE feedback.transaction_id >= :lower_transaction_id
    AND feedback.transaction_id < :upper_transaction_id
    AND feedback.released_from IS NULL
