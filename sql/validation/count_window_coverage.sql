-- Count the different known items and users in a window's feedback, and all items and users.
-- Parameters: lower_transaction_id (inclusive), upper_transaction_id (exclusive).
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT DISTINCT item_id FROM feedback
            WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
        ) AS named
        JOIN items ON items.item_id = named.item_id
    ) AS items,
    (
        SELECT count(*)
        FROM (
            SELECT DISTINCT user_id FROM feedback
            WHERE transaction_id >= :lower_transaction_id AND transaction_id < :upper_transaction_id
        ) AS named
        JOIN users ON users.user_id = named.user_id
    ) AS users,
    (SELECT count(*) FROM items) AS all_items,
    (SELECT count(*) FROM users) AS all_users
