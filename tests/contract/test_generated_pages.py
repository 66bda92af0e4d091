"""The pages of docs/ that are generated are not stale, and a stale one is told."""

from pathlib import Path

import pytest

from tests.contract.tools import ROOT, load

PAGES = {name: load(name).page for name in ("configuration", "metrics")}
generated = load("generated")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_classes_say(name: str) -> None:
    assert (ROOT / "docs" / f"{name}.md").read_text() == PAGES[name]()


@pytest.mark.parametrize("name", PAGES)
def test_a_stale_page_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "DOCS", tmp_path)
    assert generated.run(name, PAGES[name], ["check"]) == 1
    assert f"make {name}" in capsys.readouterr().err
    assert generated.run(name, PAGES[name], ["generate"]) == 0
    assert generated.run(name, PAGES[name], ["check"]) == 0
    page = tmp_path / f"{name}.md"
    page.write_text(page.read_text().replace("service", "servant", 1))
    assert generated.run(name, PAGES[name], ["check"]) == 1


def test_what_does_not_explain_itself_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def page() -> str:
        raise generated.Undocumented("a_setting has no docstring")

    assert generated.run("configuration", page, ["check"]) == 1
    assert "a_setting has no docstring" in capsys.readouterr().err
