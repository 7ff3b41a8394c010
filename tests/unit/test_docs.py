"""What the documents say is there, is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cdc_sink.cli.main import VERBS
from cdc_sink.config import load_config

HOUSE = Path(__file__).parents[2]
README = (HOUSE / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((HOUSE / "docs").glob("*.md"))))
LINKS = [
    (page, link)
    for page in PAGES
    for link in sorted(
        set(re.findall(r"\]\((?!https?:)([^)#]+)", (HOUSE / page).read_text(encoding="utf-8")))
    )
]
LONE_MACHINE = re.compile(r"/(?:root|home|tmp)/|@@")


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    assert ((HOUSE / page).parent / link).exists()


def test_the_index_leads_to_every_page() -> None:
    index = {link for page, link in LINKS if page == "docs/index.md"}
    assert {page.removeprefix("docs/") for page in PAGES[1:]} - index == {"index.md"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_readme_has_a_line_for_each_verb(verb: str) -> None:
    assert re.search(rf"^\| `cdc-sink {verb}[ `]", README, re.MULTILINE)


PIPELINES = [
    (page, block)
    for page in PAGES
    for block in re.findall(
        r"^```yaml\n(.*?)^```", (HOUSE / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    if block.startswith("pipeline:")
]


@pytest.mark.parametrize(("page", "block"), PIPELINES)
def test_a_pipeline_of_the_documents_is_a_valid_one(page: str, block: str, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(block)
    assert load_config(path).target("shop.customers").table.topic == "shop_pg.public.customers"


def test_the_first_pipelines_that_a_user_sees_are_among_them() -> None:
    assert {page for page, _ in PIPELINES} >= {"README.md", "docs/quickstart.md"}


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/operations.md"])
def test_the_documents_name_no_machine(name: str) -> None:
    assert LONE_MACHINE.findall((HOUSE / name).read_text(encoding="utf-8")) == []
