"""Read CSV, JSONL and Parquet files in chunks of columns."""
