"""Every example on a page runs, what a page names exists, and generated pages say what the code says."""

import re
import subprocess
import sys

import pytest

import segue
from docs.runner import PAGES, ROOT, blocks, kept, reader  # noqa: F401
from segue.config import Config, configure, setting_names

sys.path.insert(0, str(ROOT / "docs" / "tools"))
import generate

DOCS = ROOT / "docs"
WRITTEN = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
RUNNABLE = [page for page in PAGES if any(language in ("sh", "python") for language, _ in blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_runs(page, reader, request, monkeypatch):  # noqa: F811
    if "segue.interop" in page.read_text():
        request.getfixturevalue("keras")
    quick = segue.train

    def train(*events, config=None, **given):  # a cell has its own width, and the command line its own settings
        if isinstance(config, Config):
            return quick(*events, config=config, **given)
        short = {"train.epochs": 1, "model.text": "words"} | ({} if "cell" in given else {"model.width": 8})
        return quick(*events, config=configure({**(config or {}), **short}), **given)

    monkeypatch.setattr(segue, "train", train)
    reader.follow(page)


def test_every_command_that_is_only_shown_has_its_verb_and_options():
    commands = {words[1:]: command for words, command in generate.commands()}
    for page in PAGES:
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
        for line in re.findall(r"^    (segue .*)$", text, re.M) + re.findall(r"`(segue [^`]+)`", text):
            words = line.split()[1:]
            verb = next((key for key in (tuple(words[:2]), tuple(words[:1])) if key in commands), None)
            assert verb or words[0] in ("--version", "keys", "datasets"), f"{page}: {line}"
            known = (
                {name for each in commands[verb].params for name in [*each.opts, *each.secondary_opts]}
                if verb
                else set()
            )
            for option in re.findall(r"(?<=\s)--?[a-z][\w-]*", line.partition("&&")[0].partition("#")[0]):
                assert not verb or option in known or option == "--help", f"{page}: {option} of {line}"


def test_every_setting_that_a_page_names_exists():
    names = set(setting_names())
    for page in [page for page in PAGES if page.name not in ("concepts.md",)]:
        for name in re.findall(r"`(?:--set )?((?:train|model|experiment)\.(?!segue)[a-z_]+)\b(?!\()", page.read_text()):
            assert name in names, f"{page}: {name}"


def test_every_path_of_the_architecture_exists():
    text = (DOCS / "architecture.md").read_text()
    paths = set(re.findall(r"`([\w./-]+/[\w./-]*)`", text))
    assert len(paths) > 40
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / "src/segue" / path).exists(), path
    for path, names in re.findall(r"`([\w/]+\.py)`\s+((?:`[\w.]+`(?:, )?)+)", text):
        source = (ROOT / "src/segue" / path).read_text()
        for name in re.findall(r"`(?:\w+\.)?(\w+)`", names):
            assert re.search(rf"\b(def|class) {name}\b", source), f"{path}: {name}"


def test_every_path_in_src_or_tests_that_a_page_names_exists():
    for page in [*PAGES, *DOCS.glob("decisions/*.md")]:
        for path in re.findall(
            r"`((?:src|tests|benchmarks|examples|deploy|docs)/[\w./-]+\.(?:py|json|md|yaml))`", page.read_text()
        ):
            assert (ROOT / path).exists(), f"{page}: {path}"


def test_every_page_can_be_found_from_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    indexes = {folder: (DOCS / folder / "index.md").read_text() for folder in ("decisions", "lab-notes")}
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).as_posix()
        if page.name != "index.md" and page.parent.name in indexes:
            assert f"]({page.name})" in indexes[page.parent.name], name
        else:
            assert f": {name}\n" in nav, name


def slugs(page):
    """Return the names under which links reach the headings of a page, on the site and on GitHub."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(page, text):
    """Return the links of a text that lead nowhere in the repository; what `make docs` writes is not in it."""
    dead = []
    for target, _, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(#([^)\s]*))?\)", text):
        to = (page.parent / target).resolve() if target else page
        generated = DOCS / "reference" in (to, *to.parents)
        if generated or not to.exists() or (anchor and anchor not in slugs(to)):
            dead.append(f"{page}: {target}#{anchor}")
    return dead


def test_links_and_pictures_of_a_page_exist():
    pages = [page for page in WRITTEN if DOCS / "reference" not in page.parents]
    assert [link for page in pages for link in dead_links(page, page.read_text())] == []
    for picture in DOCS.rglob("*.png"):
        assert picture.stat().st_size < 300_000, picture


@pytest.mark.parametrize("target", ["docs/reference/http.md", "docs/none.md", "docs/results.md#none", "#none"])
def test_a_dead_link_is_seen(target):
    assert len(dead_links(ROOT / "README.md", f"[a](docs/results.md#kills) [b]({target})")) == 1


@pytest.mark.parametrize(("script", "page"), [("report_results.py", "results.md"), ("cost_model.py", "scale.md")])
def test_a_page_of_measurements_is_what_its_script_prints(script, page):
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (DOCS / page).read_text(), f"python benchmarks/{script} > docs/{page}"


def test_each_number_of_how_good_it_is_stands_on_the_page_of_results():
    said = (ROOT / "README.md").read_text().partition("## How good and how fast")[2].partition("\n## ")[0]
    results = (DOCS / "results.md").read_text()
    numbers = re.findall(r"(?<![\w@])\.\d+|\d+,\d{3}", said)
    assert len(numbers) > 8
    assert [number for number in numbers if number not in results] == []


def test_generated_pages_say_all_that_the_code_has():
    page = generate.command_line()
    for words, command in generate.commands():
        assert f"## `{' '.join(words)}`" in page
        for each in command.params:
            assert (each.help or "").split("|")[0] in page
    page = generate.settings()
    assert all(f"`{name}`" in page for name in setting_names())
    assert "| from the data |" in page and "How settings are chosen" in page
    page = generate.python()
    assert all(f"::: segue.{name}\n" in page for name in segue.__all__)
    assert "## More" not in page, "name the group of a new public name in docs/tools/generate.py"
    assert generate.metrics_module().ndcg


def test_every_route_has_an_answer_on_its_page(tmp_path):
    openapi, seen = generate.answers.collect(generate.answers.model(tmp_path))
    page = generate.http(openapi, seen)
    for path, methods in openapi["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`" in page
            assert all(answer.status == 200 for answer in seen[method.upper(), path]), seen[method.upper(), path]
    assert all(400 <= answer.status < 500 for answer in seen["refused", ""])
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in openapi["paths"]]
    for page in PAGES:
        for path in re.findall(r"(?<![\w.])/v1/[\w/{}.-]*\w", page.read_text()):
            assert any(re.fullmatch(each, path) for each in known), f"{page}: {path}"


def test_lines_of_prose_are_short():
    for page in [page for page in PAGES if page.name != "results.md"]:
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
        for line in text.splitlines():
            assert len(line) <= 100 or line.startswith(("|", "![", "[", "<", "    ")) or "](" in line or "$" in line, (
                f"{page}: {line}"
            )
