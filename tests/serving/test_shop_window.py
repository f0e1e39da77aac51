"""The page of `recsys serve`, as a person uses it in a browser, and where it is not served."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from recsys.serving.champion import Champion
from recsys.serving.http.application import create_application
from recsys.settings import Settings
from tests.publishing.shop import Shop as Books
from tests.serving.browser import ENTER, TAB, Browser, chromium
from tests.serving.conftest import Login, Shop

SCRIPT = "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"
TITLES = "#list .title"


def test_no_page_is_served_to_other_machines(http_shop: Shop) -> None:
    closed = TestClient(create_application(http_shop.engine, keys=["k" * 16]), base_url="http://shop.example")
    for path in ("/", "/window/window.js", "/window/choices"):
        assert closed.get(path).status_code == 401
        assert closed.get(path, headers={"authorization": "Bearer " + "k" * 16}).status_code == 404
    open_ = TestClient(create_application(http_shop.engine), base_url="http://shop.example")
    assert open_.get("/").status_code == 403


def test_the_page_may_load_from_here_only_and_stand_in_no_frame(http: TestClient) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/window/window.css", "text/css"),
        ("/window/window.js", "text/java"),
        ("/window/languages.js", "text/java"),
    ):
        answer = http.get(path)
        assert answer.headers["content-type"].startswith(kind)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    for path in (
        "/window/",
        "/window/x.js",
        "/window/..%2fguard.py",
        "/window/%2e%2e/guard.py",
        "/window/page.py",
    ):
        assert http.get(path).status_code == 404, path
    assert "/window/choices" not in http.get("/openapi.json").json()["paths"]


def test_it_offers_users_and_types_of_events_and_no_visitors(http_shop: Shop, http: TestClient) -> None:
    http_shop.add_user("zoe")
    http_shop.execute("insert into users (user_id, kind) values ('visitor:s-1', 'visitor')")
    assert http.get("/window/choices").json() == {
        "users": ["zoe"], "opens": "click", "reactions": ["like", "dislike", "purchase"],
    }  # fmt: skip


def test_a_login_that_only_reads_offers_nothing(login: Login) -> None:
    reader = TestClient(create_application(login("recsys_reader")), base_url="http://localhost")
    assert reader.get("/window/choices").json() == {"users": [], "opens": None, "reactions": []}


def test_opening_an_item_is_no_event_where_there_is_no_type_for_it(http_shop: Shop, http: TestClient) -> None:
    http_shop.execute(
        "update event_types set event_type = 'was ' || event_type where event_type in ('click', 'view')"
    )
    assert http.get("/window/choices").json()["opens"] is None
    http_shop.execute("update event_types set event_type = replace(event_type, 'was ', '')")


# Below, one browser and one service for all tests of this module.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def address(shop: Shop, tmp_path: Path) -> Iterator[str]:
    """A service over a shop of lamps and chairs. Its champion finds the words of titles."""
    names = [f"{kind}-{number}" for number in range(1, 7) for kind in ("lamp", "chair")]
    shop.add_items(*names)
    shop.execute("update items set title = initcap(replace(item_id, '-', ' '))")
    shop.add_items("odd", title=SCRIPT)
    shop.vectors(**{name.replace("-", "_"): [1.0, 0.01 * n] if "lamp" in name else [0.01 * n, 1.0]
                    for n, name in enumerate(names)})  # fmt: skip
    shop.add_user("ada")
    shop.publish("ada", "chair-2", "odd", "chair-3", "lamp-3", "lamp-1", "chair-1")
    shop.share("popular", "lamp-1", "chair-1", "odd", *names[2:])
    books = Books(shop.engine, Settings(home=tmp_path), {"1": ("full", None)})
    champion = Champion(books.settings, shop.engine, books.load)
    application = create_application(shop.engine, champion=champion)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def opened(browser: Browser, address: str) -> None:
    browser.open(f"{address}/window/window.css")  # it runs nothing that may remember somebody again
    browser.run("sessionStorage.clear();")
    browser.complaints()
    browser.open(address)
    settled(browser)


def settled(browser: Browser) -> None:
    browser.wait_until(
        "document.querySelector('#list .item') && !document.querySelector('#list').hasAttribute('aria-busy')"
    )


def react(browser: Browser, label: str) -> None:
    """Press the button of this name, and wait for the list that answers."""
    before = len(browser.texts("#did li"))
    browser.run("document.querySelector(`[aria-label='${arguments[0]}']`).click();", label)
    browser.wait_until(f"document.querySelectorAll('#did li').length > {before}")
    settled(browser)


@pytest.mark.parametrize(
    ("language", "heading", "listed", "reason", "source"),
    [
        ("de", "Schaufenster", "Deine Liste", "Beliebt bei anderen", "beliebt"),
        ("zh", "橱窗", "您的列表", "大家都喜欢", "热门"),
    ],
)
def test_page_and_reasons_are_in_the_language_that_somebody_chooses(
    browser: Browser, address: str, language: str, heading: str, listed: str, reason: str, source: str
) -> None:
    opened(browser, address)
    choose = "const s = document.querySelector('#language'); s.value = arguments[0];"
    browser.run(choose + " s.dispatchEvent(new Event('change'));", language)
    browser.wait_until("document.querySelector('#list-heading').textContent === arguments[0]", listed)
    settled(browser)
    assert browser.text("h1") == heading
    assert set(browser.texts("#list .reason")) == {reason}
    assert set(browser.texts("#list .source")) == {source}
    browser.open(address)  # it is remembered
    settled(browser)
    assert browser.text("h1") == heading
    assert browser.run("return document.documentElement.lang;") == language
    assert browser.complaints() == []


def test_all_languages_of_the_page_say_the_same_things(browser: Browser, address: str) -> None:
    opened(browser, address)
    same = """
        const { LANGUAGES, preferred } = await import('/window/languages.js');
        const shape = (texts) => JSON.stringify(Object.entries(texts).sort().map(
            ([name, text]) => [name, ...(text.match(/{\\w+}/g) ?? []).sort()]));
        const shapes = new Set(Object.values(LANGUAGES).map(shape)).size;
        return [shapes, preferred(['fr', 'de-AT']), preferred(['fr'])];
    """
    assert browser.run(f"return (async () => {{{same}}})();") == [1, "de", "en"]


def test_a_visitors_third_click_gives_a_list_of_their_own(browser: Browser, address: str, shop: Shop) -> None:
    shop.phrases(
        "chair-3",
        {"praised": True, "phrase": "easy to clean", "people": 12, "sentence": SCRIPT},
        {"praised": False, "phrase": "left leg", "people": 7, "sentence": None},
    )
    opened(browser, address)
    assert browser.texts(TITLES)[:2] == ["Lamp 1", "Chair 1"]
    assert set(browser.texts("#list .source")) == {"popular"}
    for number in (1, 2, 3):
        place = browser.texts(TITLES).index(f"Chair {number}") + 1
        browser.click(f"#list .item:nth-child({place}) .title")
        browser.wait_until(f"document.querySelectorAll('#did li').length === {number}")
        settled(browser)
        if number == 1:  # nobody says anything of it; it has left the list, and nothing else has moved
            assert browser.run("return document.querySelector('#opinions-section').hidden;")
            assert set(browser.texts("#list .move")) <= {"", "new in this list"}
    assert all(title.startswith("Chair") for title in browser.texts(TITLES)[:3])
    assert browser.texts("#list .source")[0] == "because of what you just did"
    assert "Similar to what you just chose" in browser.texts("#list .reason")
    assert any(text.startswith("▲ up") for text in browser.texts("#list .move"))
    browser.wait_until("document.querySelector('#similar .item')")
    assert browser.text("#similar-heading") == "Goes with “Chair 3”"
    browser.wait_until("document.querySelector('#praised .phrase')")
    assert browser.text("#opinions-heading") == "What people say of “Chair 3”"
    [praise] = browser.texts("#praised li")
    assert praise.startswith("easy to clean 12 people")
    assert SCRIPT in praise
    assert browser.texts("#criticised li") == ["left leg 7 people"]
    top, bottom, height = browser.run(
        "const place = document.querySelector('#similar-section').getBoundingClientRect();"
        "return [place.top, place.bottom, innerHeight];"
    )
    assert -1 < top < bottom < height + 1

    session = browser.run("return sessionStorage.getItem('recsys.session');")
    own = {"session": session}
    events = shop.rows("select * from feedback where session_id = :session order by feedback_id", **own)
    assert [(event["item_id"], event["event_type"]) for event in events] == [
        (f"chair-{number}", "click") for number in (1, 2, 3)
    ]
    shown = shop.rows("select * from impressions where session_id = :session", **own)
    slates = {slate["impression_id"]: slate for slate in shown}
    assert len(slates) == 4
    assert {row["user_id"] for row in (*events, *shown)} == {f"visitor:{session}"}
    for event in events:
        assert event["item_id"] in slates[event["impression_id"]]["item_ids"]
    assert {slate["placement"] for slate in slates.values()} == {"home"}
    assert browser.complaints() == []


def test_a_user_likes_and_dislikes_and_a_title_stays_a_text(
    browser: Browser, address: str, shop: Shop
) -> None:
    opened(browser, address)
    browser.type("#user", "ada")
    browser.click("#user-form button")
    browser.wait_until("document.querySelector('#who').innerText.includes('ada')")
    browser.wait_until("document.querySelector('#list .title').innerText === 'Chair 2'")
    assert browser.text("#list .reason") == "because of chair-2"
    assert SCRIPT in browser.texts(TITLES)
    react(browser, "dislike: Chair 2")
    assert "Chair 2" not in browser.texts(TITLES)
    react(browser, "like: Lamp 3")
    assert browser.texts(TITLES)[0].startswith("Lamp")
    assert browser.texts("#did li") == ["like: Lamp 3", "dislike: Chair 2"]
    assert {row["user_id"] for row in shop.rows("select user_id from feedback")} == {"ada"}
    # Neither the title nor a script that got into the page by other ways is run.
    harmed = "const one = document.createElement('script'); one.textContent = 'window.harmed = 1';"
    assert browser.run(f"{harmed} document.head.append(one); return window.harmed ?? null;") is None


def test_words_are_answered_by_the_champion_and_errors_are_said_in_words(
    browser: Browser, address: str, shop: Shop
) -> None:
    opened(browser, address)
    browser.type("#request", "lamp 5")
    browser.click("#ask-form button")
    browser.wait_until("!document.querySelector('#message').hidden")
    assert "there is no champion yet; run nightly_training first" in browser.text("#message")
    react(browser, "like: Lamp 1")  # the list that is shown goes on without the request
    assert browser.text("#message") == ""
    assert browser.text("#list-heading") == "Your list"
    Books(shop.engine, Settings()).promote("1")
    browser.click("#ask-form button")
    browser.wait_until("document.querySelector('#list .title').innerText === 'Lamp 5'")
    assert browser.text("#message") == ""
    assert browser.text("#list-heading") == "For “lamp 5”"
    assert browser.text("#list .source") == "answers your request"
    [asked] = shop.rows("select * from impressions where query is not null")
    assert (asked["query"], asked["model_version"], asked["item_ids"][0]) == ("lamp 5", "1", "lamp-5")
    browser.click("#without")
    browser.wait_until("document.querySelector('#list-heading').innerText === 'Your list'")
    settled(browser)

    shop.execute("update items set available = false")
    browser.click("#visitor")
    browser.wait_until("document.querySelector('#message').innerText.startsWith('No item qualifies')")
    shop.execute("alter table items rename to gone")
    shop.execute("alter table placements rename to away")
    browser.click("#visitor")
    browser.wait_until("document.querySelector('#message').innerText.startsWith('This did not work')")


def test_a_service_that_only_reads_shows_lists(browser: Browser, address: str) -> None:
    opened(browser, address)
    browser.run(
        "const send = window.fetch, answer = JSON.stringify({ detail: 'it only reads' });"
        "const refused = () => new Response(answer, { status: 403 });"
        "window.fetch = async (path, ...rest) => path === '/impressions' ? refused() : send(path, ...rest);"
    )
    browser.type("#user", "ada")
    browser.click("#user-form button")
    browser.wait_until("document.querySelector('#list .title').innerText === 'Chair 2'")
    assert browser.text("#message") == ""


def test_a_service_that_has_ended_is_said_in_words(browser: Browser, address: str) -> None:
    opened(browser, address)
    browser.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'));")
    browser.click("#visitor")
    browser.wait_until("document.querySelector('#message').innerText.includes('Start it again')")


def test_everything_is_within_reach_of_a_keyboard_and_fits_a_phone(browser: Browser, address: str) -> None:
    opened(browser, address)
    browser.run("document.querySelector('#list .title').focus();")
    browser.press(TAB)  # like
    browser.press(ENTER)
    browser.wait_until("document.querySelectorAll('#did li').length === 1")
    settled(browser)
    # The item is gone and its button with it, so the focus is at the head of the list.
    browser.wait_until("document.activeElement.id === 'list-heading'")
    nameless = browser.run(
        "return [...document.querySelectorAll('button, input')].filter((one) =>"
        " !one.innerText.trim() && !one.getAttribute('aria-label') && !one.labels?.length).length;"
    )
    assert nameless == 0
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.resize(360, 740)
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth;")
    assert browser.run(
        "return performance.getEntriesByType('resource').every("
        "(one) => one.name.startsWith(location.origin));"
    )
    browser.resize(1180, 900)
