import pytest

from recsys.catalogues.film_text import Film, natural_title


@pytest.mark.parametrize(
    ("catalogued", "spoken"),
    [
        ("Matrix, The", "The Matrix"),
        ("Affair to Remember, An", "An Affair to Remember"),
        ("Avventura, L'", "L'Avventura"),
        (
            "City of Lost Children, The (Cité des enfants perdus, La)",
            "The City of Lost Children (La Cité des enfants perdus)",
        ),
        ("Paris, Texas", "Paris, Texas"),
        ("Fast, Cheap & Out of Control", "Fast, Cheap & Out of Control"),
        ("三体", "三体"),
        ("", ""),
    ],
)
def test_a_trailing_article_goes_to_the_front(catalogued: str, spoken: str) -> None:
    assert natural_title(catalogued) == spoken


def test_the_year_of_a_title_becomes_an_attribute() -> None:
    film = Film.parse("7", "Matrix, The (1999)", ["Action", "Sci-Fi", "Thriller"])
    assert film.item() == {
        "item_id": "7",
        "title": "The Matrix",
        "description": "An action, Sci-Fi and thriller film from 1999.",
        "attributes": {"genres": ["Action", "Sci-Fi", "Thriller"], "year": 1999},
    }


@pytest.mark.parametrize("genres", [["unknown"], ["(no genres listed)"], [""], []])
def test_a_film_without_genre_or_year_still_has_a_description(genres: list[str]) -> None:
    assert Film.parse("7", "Nosferatu", genres).item() == {
        "item_id": "7",
        "title": "Nosferatu",
        "description": "A film.",
        "attributes": {},
    }
