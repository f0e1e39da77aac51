"""The languages that the package brings, and the table that operators add others to."""

import json
from functools import cache
from typing import Any

import sqlalchemy as sa

from recsys.warehouse.statements import read_statement, sql_path

PACKAGED = ("en", "de", "zh")
"""The first one is the default until somebody chooses another."""


@cache
def packaged_texts(language: str = PACKAGED[0]) -> dict[str, Any]:
    """Return the texts of a language in `PACKAGED`, by what they say."""
    file = sql_path("warehouse", "languages", f"{language}.json")
    texts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return texts


def bring_languages(connection: sa.Connection) -> None:
    """Add the languages of this release, and to all languages the texts that are new in it.

    The warehouse has the newest revision.
    """
    known = connection.exec_driver_sql("SELECT language FROM languages ORDER BY 1").scalars()
    for language in dict.fromkeys([*PACKAGED, *known]):
        texts = packaged_texts(language if language in PACKAGED else PACKAGED[0])
        connection.execute(
            sa.text(read_statement("warehouse/insert_language")),
            {"language": language, "texts": json.dumps(texts)},
        )
