from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.ingest import IngestSummary, ingest_file
from tests.warehouse.ingest.loading import Load


@pytest.fixture
def load(warehouse: sa.Engine, tmp_path: Path) -> Load:
    def load(
        content: str | bytes, name: str = "feedback.csv", table: Any = "feedback", **options: Any
    ) -> IngestSummary:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest_file(warehouse, table, path, **options)

    return load
