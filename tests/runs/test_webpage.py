"""The page, as a browser shows it: Chromium without a window opens the file from the disk."""

import json
import re
import shutil
import subprocess
from urllib.parse import urlencode

import pytest

from emu.base.endings import Ending
from emu.judge.discovery import Rule
from emu.runs import webpage
from emu.runs.exports import Origin
from emu.runs.webpage import CALLS_MAX, escaped, page, page_data
from matrix_kit import BROKEN, HELLO, outcome, result

ORIGIN = Origin("0.1.0", "hvcemu matrix <b>bold</b>", "2026-01-02T03:04:05+00:00")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=document.title='owned'>\u2028&amp;"
RESULTS = [
    result(),
    result(profile="none", made=outcome(Ending.EXIT, 3, detail="3", console="third\n")),
    result("trng", made=outcome(
        calls=(HELLO._replace(call="TRNG_VERSION()"),), verdicts=(BROKEN,), cycles=123_456)),
    result("trng", "none", outcome(Ending.FAULT, 121, detail="undefined instruction")),
    result("evil", made=outcome(
        Ending.LOST, 121, detail=HOSTILE, console=HOSTILE, calls=(HELLO._replace(why=HOSTILE),),
        verdicts=(BROKEN._replace(text=HOSTILE, rule=HOSTILE),))),
]  # fmt: skip


@pytest.fixture
def rules(monkeypatch):
    rule = Rule("made-up-rule", "Do not <i>do</i> this", "DEN0028 §7.1", "", "do that instead")
    monkeypatch.setitem(webpage.RULES, "made-up-rule", rule)


def made(results=RESULTS, allowed=()):
    return page(results, ORIGIN, frozenset(allowed))


def dom(tmp_path, text, **hash):
    """The page's elements after its script has run; filters and cell as the address has them."""
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={tmp_path / 'chromium'}", "--virtual-time-budget=3000", "--dump-dom",
         f"file://{path}#{urlencode(hash)}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def rows_shown(html):
    return re.findall(r'<tr><th scope="row">(.*?)</th>', html)


def columns_shown(html):
    return re.findall(r'<th scope="col">([\w.-]+)</th>', html.partition("</thead>")[0])


def section(html):
    return html.partition('<section id="cell"')[2].partition("</section>")[0]


def test_the_data_is_read_back():
    text = made().partition('id="data">')[2].partition("</script>")[0]
    data = json.loads(text)
    assert data == json.loads(json.dumps(page_data(RESULTS, ORIGIN, frozenset())))
    assert data["cells"][-1]["detail"] == HOSTILE
    assert "<" not in text


def test_the_page_needs_nothing_else():
    text = made()
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)=["'](?!data:,)""", text.replace("&amp;", ""))
    assert "http://" not in text
    assert "https://" not in text


def test_what_cells_share_is_stored_once():
    many = [result(f"g{n}", made=outcome(calls=(HELLO._replace(cycles=n),))) for n in range(1000)]
    data = page_data(many, ORIGIN, frozenset())
    assert len(data["traces"]) == len(data["texts"]) == 1
    assert [cell["at"] for cell in data["cells"][:2]] == [[0], [1]]
    assert len(json.dumps(data)) < 1000 * 700


def test_long_traces_are_cut():
    long = outcome(calls=(HELLO,) * 1000, total_calls=5000, console="x" * 100_000)
    data = page_data([result(made=long)], ORIGIN, frozenset())
    assert len(data["traces"][0]) == CALLS_MAX
    assert len(data["texts"][0]) == webpage.CONSOLE_MAX
    assert (data["cells"][0]["calls"], data["cells"][0]["printed"]) == (5000, 100_000)


def test_escapes():
    assert json.loads(escaped(json.dumps(HOSTILE, ensure_ascii=False))) == HOSTILE
    assert not set("<\u2028\u2029") & set(escaped("</script>\u2028\u2029"))


@browser
def test_the_grid(tmp_path):
    html = dom(tmp_path, made())
    assert rows_shown(html) == ["hello", "trng", "evil"]
    assert columns_shown(html) == ["guest", "kvm-6.12", "none"]
    for kind, text in (("ok", "✓ ok"), ("bad", "✗ exit 3"), ("warn", "! 1 rule"),
                       ("bad", "✗ fault"), ("lost", "? lost, 1 rule")):  # fmt: skip
        assert re.search(rf'<a class="{kind}"[^>]*>{re.escape(text)}</a>', html), text
    assert "5 cells: 1 good, 4 not" in html
    assert "hvcemu matrix &lt;b&gt;bold&lt;/b&gt;" in html
    assert section(html).endswith(">")  # empty
    assert "5 cells: 2 good, 3 not" in dom(tmp_path, made(allowed={3}))


@browser
@pytest.mark.parametrize(
    ("hash", "rows", "columns", "sum"),
    [
        ({"guest": "TRN"}, ["trng"], ["kvm-6.12", "none"], "2 of 5 cells: 0 good, 2 not"),
        ({"profile": "none"}, ["hello", "trng"], ["none"], "2 of 5 cells: 0 good"),
        ({"ending": "fault"}, ["trng"], ["none"], "1 of 5 cells"),
        ({"rule": "made-up-rule"}, ["trng"], ["kvm-6.12"], "1 of 5 cells"),
        ({"bad": "1"}, ["hello", "trng", "evil"], ["kvm-6.12", "none"], "4 of 5 cells: 0 good"),
        ({"guest": "nobody"}, [], [], "0 of 5 cells"),
    ],
)
def test_filters(tmp_path, hash, rows, columns, sum):
    html = dom(tmp_path, made(), **hash)
    assert rows_shown(html) == rows
    assert columns_shown(html)[1:] == columns
    assert sum in html


@browser
def test_a_cell(tmp_path, rules):
    html = section(dom(tmp_path, made(), cell="trng | kvm-6.12"))
    for text in (
        "TRNG_VERSION()", "service psci", "123,456", "hello\n", "cycle 120, vCPU 0, at main+0x10",
        "made-up-rule: Do not &lt;i&gt;do&lt;/i&gt; this", "Mend it: do that instead",
        "Source: DEN0028 §7.1", "/guests/trng.elf", "64 MiB", "abab",
    ):  # fmt: skip
        assert text in html
    fault = section(dom(tmp_path, made(), cell="trng | none"))
    assert "fault: undefined instruction" in fault


@browser
def test_what_a_guest_prints_is_inert(tmp_path):
    html = dom(tmp_path, made(), cell="evil | kvm-6.12")
    assert html.count("<script") == 2  # the data and the page's own
    assert "<img" not in html
    assert "<title>hvcemu matrix</title>" in html
    assert section(html).count("&lt;/script&gt;&lt;script&gt;alert(1)") >= 4


# What a hand does: click a cell, type into a filter, clear it; the page tells in its title.
HAND = """<script>
const steps = [
  () => document.querySelector("#grid td a.warn").click(),
  () => {
    form.elements.guest.value = "hello";
    form.elements.guest.dispatchEvent(new Event("input", {bubbles: true}));
  },
  () => { said.push(rowsNow(), location.hash); form.reset(); },
  () => { said.push(rowsNow(), document.querySelector("#cell h2").textContent, location.hash); },
  () => { document.title = JSON.stringify(said); },
];
const said = [];
const names = () => document.querySelectorAll("#grid tbody tr:not([hidden]) th");
const rowsNow = () => [...names()].map((th) => th.textContent).join();
steps.forEach((step, n) => setTimeout(step, 200 * (n + 1)));
</script></body>"""


@browser
def test_by_hand(tmp_path):
    html = dom(tmp_path, made().replace("</body>", HAND))
    said = json.loads(re.search("<title>(.*)</title>", html)[1])
    cell = urlencode({"cell": "trng | kvm-6.12"})
    assert said == [
        "hello", f"#guest=hello&amp;{cell}", "hello,trng,evil", "! 1 ruletrng kvm-6.12", f"#{cell}",
    ]  # fmt: skip


@browser
def test_a_thousand_cells(tmp_path):
    many = [result(f"g{n}", profile) for n in range(100) for profile in "abcdefghij"]
    html = dom(tmp_path, page(many, ORIGIN, frozenset()), cell="g99 | j", guest="g9")
    assert len(rows_shown(html)) == 11
    assert "110 of 1,000 cells: 110 good, 0 not" in html
    assert "PSCI_VERSION()" in section(html)
