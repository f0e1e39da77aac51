"""Model versions in MLflow, the promotion gate, the ledger of decisions, the way back."""
