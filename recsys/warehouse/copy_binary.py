"""What frames the rows in PostgreSQL's binary COPY format."""

COPY_BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Signature, no flags, no header extension."""
COPY_BINARY_TRAILER = b"\xff\xff"
