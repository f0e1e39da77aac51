from recsys.snapshot.item_text import item_text


def test_text_joins_title_description_and_attributes() -> None:
    text = item_text("Toy Story (1995)", "A cowboy doll.", {"genres": ["Comedy", "Children"], "year": 1995})
    assert text == "Toy Story (1995). A cowboy doll. genres: Comedy, Children; year: 1995"


def test_empty_parts_are_left_out() -> None:
    assert item_text("", "", {}) == ""
    assert item_text("Title", "", {"genres": [], "note": None}) == "Title"
    assert item_text("", "", {"adult": False}) == "adult: no"


def test_the_order_of_keys_and_white_space_do_not_change_the_text() -> None:
    assert item_text("a  b\n", "", {"x": 1, "y": 2}) == item_text("a b", "", {"y": 2, "x": 1})


def test_text_of_any_script_is_kept() -> None:
    assert item_text("三体 🚀", "科幻", {"作者": "刘慈欣"}) == "三体 🚀. 科幻. 作者: 刘慈欣"
