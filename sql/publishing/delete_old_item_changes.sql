-- After a publication for everyone, forget the changes of items that it has read.
-- Parameters :everyone, :through_transaction_id.
delete from item_changes where :everyone and transaction_id < :through_transaction_id
