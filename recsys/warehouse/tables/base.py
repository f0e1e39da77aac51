"""What the definitions of all tables share."""

from sqlalchemy import Column, DateTime, MetaData, text

metadata = MetaData()

NOW = text("clock_timestamp()")
EMPTY_JSON = text("'{}'::jsonb")
# The function adds an offset: ids keep increasing after a dump is restored into a cluster that counts from 1.
TRANSACTION_ID = text("warehouse_transaction_id()")


def timestamp(name: str, **options: object) -> Column[object]:
    """A column that knows its time zone."""
    return Column(name, DateTime(timezone=True), **options)  # type: ignore[arg-type]
