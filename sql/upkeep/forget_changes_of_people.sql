-- Delete notes about people who have neither feedback nor counts of it any more, so that nothing names them.
-- Parameters: user_ids.
DELETE FROM changed_feedback
WHERE user_id = ANY (CAST(:user_ids AS text[]))
    AND NOT EXISTS (SELECT FROM feedback WHERE feedback.user_id = changed_feedback.user_id)
    AND NOT EXISTS (SELECT FROM feedback_by_user WHERE feedback_by_user.user_id = changed_feedback.user_id)
