-- Delete counts of people who have no feedback any more.
DELETE FROM feedback_by_user
USING changed_people
WHERE feedback_by_user.user_id = changed_people.user_id
    AND NOT EXISTS (SELECT FROM feedback WHERE feedback.user_id = changed_people.user_id)
