from recsys.validation.data_docs import link_to_run, list_pages, read_page


def test_results_come_before_suites_and_have_titles(tmp_path):
    site = tmp_path / "window-3"
    for path in ("expectations/row-rules.html", "validations/table-expectations/w/1/figures.html"):
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text("<head></head>")
    (site / "index.html").write_text("")
    titles = [page.title for page in list_pages(tmp_path, 3)]
    assert titles == ["results: table expectations", "expectations: row rules"]
    assert all("<style>" in (read_page(tmp_path, 3, page.path) or "") for page in list_pages(tmp_path, 3))


def test_a_window_without_site_has_no_pages(tmp_path):
    assert list_pages(tmp_path, 4) == []
    assert read_page(tmp_path, 4, "index.html") is None


def test_without_a_base_url_the_link_is_relative_to_the_host():
    assert link_to_run("", "dag/run+1") == "/recommender/data-docs?run=dag%2Frun%2B1"
    assert link_to_run("https://a.example/x/", "d") == "https://a.example/x/recommender/data-docs?run=d"
