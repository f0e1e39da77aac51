"""The gate, approval, the ledger, promotion and rollback."""
