"""How long a page is known to be stored without a look at the database."""

from tocsin_notify.app.pages.recently_stored import RecentlyStored


class Session:
    """It lives until it is `over`."""

    over = False

    def ended(self) -> bool:
        return self.over


def test_a_page_is_known_for_a_while() -> None:
    now = 0.0
    lately = RecentlyStored(clock=lambda: now)
    lately.add(["pages/a"], Session().ended)
    assert "pages/a" in lately
    assert "pages/b" not in lately
    now = 14.0
    assert "pages/a" in lately
    now = 40.0
    assert "pages/a" not in lately


def test_a_page_is_forgotten_with_the_session_that_stored_it() -> None:
    session, lately = Session(), RecentlyStored(clock=lambda: 0.0)
    lately.add(["pages/a"], session.ended)
    session.over = True
    assert "pages/a" not in lately


def test_what_is_remembered_is_bounded() -> None:
    lately, session = RecentlyStored(clock=lambda: 0.0), Session()
    for start in range(0, 200_000, 1000):
        lately.add((f"pages/{start + number}" for number in range(1000)), session.ended)
    assert sum(f"pages/{number}" in lately for number in range(200_000)) <= 100_000
    assert "pages/199999" in lately
