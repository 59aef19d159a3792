"""WCAG 2.2 A and AA on every page, light and dark: by axe-core, and the contrast of all text by WCAG's own formula.

Nothing is excused: the theme brings no violation of its own, and a new one would be listed here with its reason.
"""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from built_site import NOTEBOOKS, PAGES, PHONE, Site
from playwright.sync_api import Page

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
every_page = pytest.mark.parametrize("name", PAGES)

# Names every visible text whose contrast is too low by WCAG 2.2, 1.4.3: 4.5, or 3 for large text. A ground may let the
# one below it through. Of the thousands of coloured words of a page, one stands for all with its colour and ground.
LOW_CONTRAST = """() => {
    const channels = colour => [...colour.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
    const over = (below, above) => below.map((value, i) => i < 3 ? value + (above[i] - value) * above[3] : 1);
    const luminance = colour => colour.slice(0, 3)
        .map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const grounds = new Map();
    const groundOf = node => {
        if (!node) return [255, 255, 255, 1];
        if (!grounds.has(node))
            grounds.set(node, over(groundOf(node.parentElement), channels(getComputedStyle(node).backgroundColor)));
        return grounds.get(node);
    };
    const low = new Map();
    let looked = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility({visibilityProperty: true})) continue;
        looked += 1;
        const style = getComputedStyle(node), ground = groundOf(node);
        const [dark, light] = [over(ground, channels(style.color)), ground].map(luminance).sort((a, b) => a - b);
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        const contrast = (light + 0.05) / (dark + 0.05);
        if (contrast < (large ? 3 : 4.5))
            low.set(style.color + ground, `${contrast.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 60)}`);
    }
    return [looked, [...low.values()]];
}"""


def violations(page: Page, options: dict, *, but: list[str] | None = None) -> list[str]:
    """Let axe-core look at a page; `but` are selectors of what it shall leave out."""
    page.evaluate(AXE_SCRIPT)
    context = {"exclude": [[selector] for selector in but or []]}
    results = page.evaluate("([context, options]) => axe.run(context, options)", [context, options])
    assert results["passes"], "axe looked at nothing"
    return [f"{found['id']}: {node['html'][:200]}" for found in results["violations"] for node in found["nodes"]]


@every_page
def test_axe_finds_no_violation(site: Site, name: str) -> None:
    options = {"runOnly": WCAG, "rules": {"color-contrast": {"enabled": False}}}  # colours are the next test's
    assert violations(site.open(name), options) == []


@every_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_colour_schemes(site: Site, name: str, scheme: str) -> None:
    page = site.open(name, scheme)
    looked, low = page.evaluate(LOW_CONTRAST)
    assert looked > 10
    assert low == []
    # axe would take minutes for the thousands of words of code and signatures, which the lines above looked at.
    but = [".highlight pre span", "dl.py dt span", "dl.py dd dl"]
    assert violations(page, {"runOnly": {"type": "rule", "values": ["color-contrast"]}}, but=but) == []


def test_a_violation_would_be_found(site: Site) -> None:
    page = site.open("index")
    page.locator("article h1").evaluate(
        """node => node.insertAdjacentHTML("afterend",
            `<img src="data:,"><p style="color: #999; background: #fff">hardly seen</p>
             <pre class="highlight"><span style="color: rgb(0 0 0 / 40%)">faint</span></pre>`)"""
    )
    found = violations(page, {"runOnly": WCAG})
    assert {line.partition(":")[0] for line in found} == {"color-contrast", "image-alt"}
    assert [line.partition(": ")[2] for line in page.evaluate(LOW_CONTRAST)[1]] == ["hardly seen", "faint"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_search_is_accessible_with_what_it_found(site: Site, scheme: str) -> None:
    page = site.open("index", scheme)
    page.keyboard.press("Control+k")
    page.locator("dialog input[type=search]").fill("checkpoint")
    assert violations(page, {"runOnly": WCAG}) == []
    page.keyboard.press("Enter")
    page.locator("ul.search .context").first.wait_for()
    assert violations(page, {"runOnly": WCAG}) == []
    assert page.evaluate(LOW_CONTRAST)[1] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_with_its_menu_open_is_accessible(site: Site, scheme: str) -> None:
    page = site.watch(site.new_context(viewport=PHONE, color_scheme=scheme).new_page(), "index")
    assert violations(page, {"runOnly": WCAG}) == []
    page.locator("button.primary-toggle:visible").click()
    page.get_by_role("navigation").get_by_role("link", name="3. Feed PyTorch with Ray Data").wait_for()
    assert violations(page, {"runOnly": WCAG}) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tabs_and_an_opened_solution_are_accessible(site: Site, scheme: str) -> None:
    page = site.open("index", scheme)
    page.locator("article .sd-tab-set > label").nth(1).click()
    page.locator("article .sd-tab-content:visible pre[tabindex='0']").wait_for()
    assert violations(page, {"runOnly": WCAG}) == []
    page = site.open(NOTEBOOKS[0], scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    page.wait_for_function("() => document.querySelectorAll('details pre[tabindex=\"0\"]').length > 0")
    assert page.evaluate(LOW_CONTRAST)[1] == []
    assert violations(page, {"runOnly": {"type": "rule", "values": ["scrollable-region-focusable"]}}) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_lines_of_a_diff_can_be_told_apart(site: Site, scheme: str) -> None:
    ground = "node => getComputedStyle(node).backgroundColor"
    page = site.open("index", scheme)
    kinds = [page.locator(f".highlight-diff {kind}").first for kind in (".gi", ".gd", "pre")]
    assert len({kind.evaluate(ground) for kind in kinds}) == 3
    page = site.open("notebooks/01_convert_pytorch_to_ray", scheme)
    assert len({page.locator(kind).first.evaluate(ground) for kind in ("main ins", "main del", "body")}) == 3
