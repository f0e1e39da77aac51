"""Which language a user reads, and which texts an operator may write."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.warehouse.languages import PACKAGED, bring_languages, packaged_texts

INSERT = "INSERT INTO languages (language, texts) VALUES (:language, CAST(:texts AS jsonb))"


def add(engine: sa.Engine, language: str, **changes: Any) -> None:
    """Add a language with English texts and these changes; None leaves a text out."""
    texts = {name: text for name, text in (packaged_texts() | changes).items() if text is not None}
    with engine.begin() as connection:
        connection.execute(sa.text(INSERT), {"language": language, "texts": json.dumps(texts)})


def language_of(engine: sa.Engine, asked: str | None) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(sa.text("SELECT language_of(:asked)"), {"asked": asked}))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("de", "de"), ("de-AT", "de"), ("DE_ch", "de"), ("zh-Hant-TW", "zh"), ("en-GB", "en"), ("fr", "en"),
        ("den", "en"), ("d", "en"), ("", "en"), (None, "en"), ("'; drop table items; --", "en"), ("%", "en"),
        ("de" * 100_000, "en"),
    ],
)  # fmt: skip
def test_a_language_falls_back_to_its_base_and_then_to_the_default(
    warehouse: sa.Engine, asked: str | None, found: str
) -> None:
    assert language_of(warehouse, asked) == found


def test_a_region_of_its_own_is_nearer_than_its_language(warehouse: sa.Engine) -> None:
    add(warehouse, "de-at")
    assert [language_of(warehouse, asked) for asked in ("de-AT", "de-AT-1996", "de-CH")] == [
        "de-at", "de-at", "de",
    ]  # fmt: skip


def test_another_language_becomes_the_default_and_one_always_is(warehouse: sa.Engine) -> None:
    with warehouse.begin() as connection:
        connection.exec_driver_sql("UPDATE languages SET is_default = (language = 'de')")
    assert language_of(warehouse, "fr") == "de"
    for statement in (
        "DELETE FROM languages WHERE language = 'de'", "UPDATE languages SET is_default = false",
        "UPDATE languages SET is_default = true",
    ):  # fmt: skip
        with pytest.raises(sa.exc.IntegrityError), warehouse.begin() as connection:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("language", PACKAGED)
def test_packaged_languages_say_the_same_things(warehouse: sa.Engine, language: str) -> None:
    assert packaged_texts(language).keys() == packaged_texts().keys()
    assert packaged_texts(language)["did"].keys() == packaged_texts()["did"].keys()
    with warehouse.connect() as connection:
        found = connection.scalar(sa.text("SELECT texts FROM languages WHERE language = :l"), {"l": language})
    assert found == packaged_texts(language)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"similar_to": "Comme {titel}"}, r"similar_to of fr names {titel}.*Name {title} in it"),
        ({"similar_to": "Comme ceci"}, r"similar_to of fr names nothing.*Name {title} in it"),
        ({"trending": "Tendance {title}"}, r"trending of fr names {title}.*leave out"),
        ({"because": "Parce que {did}{also} {title}"}, r"because of fr names"),
        ({"new": None, "live": None}, r"fr has no text for live, new.*Start from the texts"),
        ({"news": "Nouveau"}, r"nothing says the text news of fr"),
        ({"new": ""}, r"new of fr is no string of 1 to 500"),
        ({"new": 5}, r"new of fr is no string"),
        ({"new": "x" * 501}, r"new of fr is no string"),
        ({"did": "a"}, r"no object with an object"),
        ({"did": {"view": "vu {title}"}}, r"fr has no text for did.other"),
        ({"did": {"other": "choisi {title}", "listen": "entendu"}}, r"did.listen of fr names nothing"),
    ],
)
def test_texts_that_would_be_wrong_are_refused_with_a_remedy(
    warehouse: sa.Engine, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=f"(?s){message}"):
        add(warehouse, "fr", **changes)


@pytest.mark.parametrize("tag", ["FR", "fr_CA", "", "f", "fr-", "fr ca", "fr" + "-abc" * 20])
def test_a_name_that_is_no_tag_is_refused(warehouse: sa.Engine, tag: str) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="languages_tag_check"):
        add(warehouse, tag)


def test_a_release_adds_what_is_new_and_keeps_what_somebody_wrote(warehouse: sa.Engine) -> None:
    add(warehouse, "fr", new="Nouveau")
    with warehouse.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE languages SET texts = jsonb_set(texts, '{new}', '\"Ganz neu\"') WHERE language = 'de'"
        )
        # As an earlier release left it, without two texts.
        connection.exec_driver_sql("ALTER TABLE languages DISABLE TRIGGER check_language")
        connection.exec_driver_sql("UPDATE languages SET texts = texts - 'live' #- '{did,share}'")
        connection.exec_driver_sql("ALTER TABLE languages ENABLE TRIGGER check_language")
        bring_languages(connection)
        texts = dict(connection.exec_driver_sql("SELECT language, texts FROM languages").all())  # type: ignore[arg-type]
    assert texts["de"] == packaged_texts("de") | {"new": "Ganz neu"}
    assert texts["fr"] == packaged_texts() | {"new": "Nouveau"}
    assert texts["en"] == packaged_texts()
