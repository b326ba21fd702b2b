"""The page of a map in headless Chromium that has no network, under a mouse and under a finger."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from playwright.sync_api import Page
from rasterio.warp import transform

from bp_lcz.maps import page as page_module
from bp_lcz.maps.cells import Reason
from bp_lcz.maps.page import REASONS, Story, write_page
from bp_lcz.scheme import CODES, NAMES
from tests.maps.rasters import write_cells, write_map
from tests.scenes.rasters import NORTH, UTM, WEST

ROWS, COLUMNS = 9, 14
EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'> \"&amp;.tif"
STORY = Story(
    title="Pfaffenhofen",
    days="2 March 2020",
    model=("Sen2LCZ-MF",),
    notices=("The scene is L2A.",),
    agreement=("75.2 % agree",),
    findings=("S2.tif: offset 1000",),
    files=(("lcz.tif", "zones"),),
)


def zones_that_tell_their_place() -> np.ndarray:
    lcz = (1 + (5 * np.arange(ROWS)[:, None] + np.arange(COLUMNS)) % 17).astype(np.uint8)
    lcz[0, :3] = 0
    lcz[4, 5] = 0
    return lcz


def write_folder(folder: Path, lcz: np.ndarray, story: Story = STORY) -> Path:
    write_map(folder, lcz)
    reason = np.where(lcz > 0, 1, 2).astype(np.uint8)
    reason[0, 0], reason[4, 5], reason[8, 13] = Reason.OUTSIDE_AREA, 5, Reason.UNLIKE
    names = ("probability", "margin", "entropy", "reason")
    write_cells(folder / "quality.tif", np.stack([reason] * 4), names=names)
    picture = np.zeros((10 * lcz.shape[0], 10 * lcz.shape[1], 3), np.uint8)
    return write_page(folder, picture, story)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("map"), zones_that_tell_their_place())


@pytest.fixture(scope="module")
def wide(opened: Callable[..., Page], written: Path) -> Page:
    return opened(written)


@pytest.fixture(scope="module")
def narrow(opened: Callable[..., Page], written: Path) -> Page:
    return opened(written, 360)


def middle_of(page: Page, row: int, column: int, rows: int = ROWS, columns: int = COLUMNS) -> tuple[float, float]:
    box = page.locator("canvas.zones").bounding_box()
    assert box is not None
    return box["x"] + (column + 0.5) * box["width"] / columns, box["y"] + (row + 0.5) * box["height"] / rows


def told(page: Page, row: int, column: int) -> str:
    """What the page tells of a cell when a mouse is there, or a finger has tapped it."""
    if page.viewport_size["width"] < 500:
        page.locator("#map").scroll_into_view_if_needed()
        page.wait_for_timeout(350)  # two taps at once zoom in
        page.touchscreen.tap(*middle_of(page, row, column))
    else:
        page.mouse.move(*middle_of(page, row, column))
    return page.inner_text("#cell")


@pytest.mark.parametrize("window", ["wide", "narrow"])
@pytest.mark.parametrize("cell", [(1, 0), (0, 3), (0, 13), (8, 0), (8, 12), (5, 9)])
def test_each_cell_tells_its_zone_and_probability(
    window: str, cell: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    text = told(request.getfixturevalue(window), *cell)
    number = int(zones_that_tell_their_place()[cell])
    assert text.startswith(f"{CODES[number - 1]} {NAMES[number - 1]}\n")
    assert f"{60 + number} %" in text
    assert text.count("1 %") >= 3  # the next three


def test_a_cell_without_a_zone_tells_why_and_one_unlike_the_training_data_is_marked(wide: Page) -> None:
    assert REASONS[5] in told(wide, 4, 5)
    assert REASONS[2] in told(wide, 0, 1)
    assert "Unlike the training data" in told(wide, 8, 13)
    assert "Unlike" not in told(wide, 8, 12)


def test_coordinates_are_those_of_the_place_to_a_metre(wide: Page) -> None:
    row, column = 7, 3
    east, north = WEST + 100 * (column + 0.5), NORTH - 100 * (row + 0.5)
    longitude, latitude = (values[0] for values in transform(UTM, "EPSG:4326", [east], [north]))
    said = re.search(r"([\d.]+)° N ([\d.]+)° E\s+E ([\d,]+) N ([\d,]+) m", told(wide, row, column))
    assert said is not None
    pixel = 100 * COLUMNS / wide.locator("canvas.zones").bounding_box()["width"]
    assert float(said[1]) == pytest.approx(latitude, abs=2 * pixel / 1e5)
    assert float(said[2]) == pytest.approx(longitude, abs=2 * pixel / 5e4)
    assert [int(text.replace(",", "")) for text in said.groups()[2:]] == pytest.approx([east, north], abs=2 * pixel)


def test_degrees_between_the_nodes_are_right_to_a_metre_on_a_full_tile() -> None:
    side, place = 1098, Affine(100, 0, 300_000, 0, -100, 7_900_000)
    lcz = np.ones((side, side), np.uint8)
    nodes = page_module._degrees(lcz.shape, place, "EPSG:32633")
    count = nodes.shape[1]
    step = side / (count - 1)
    for row, column in ((0.5, 0.5), (count // 2 - 0.5, count - 1.5), (count - 1.5, 0.5)):
        around = [[int(row), int(row) + 1], [int(column), int(column) + 1]]
        middle = nodes[:, around[0]][:, :, around[1]].mean(axis=(1, 2))
        east, north = place @ (column * step, row * step)
        exact = [values[0] for values in transform("EPSG:32633", "EPSG:4326", [east], [north])]
        metres = (middle - exact) * 111_320 * np.array([np.cos(np.radians(exact[1])), 1])
        assert np.abs(metres).max() < 1.5


def test_the_title_has_the_days_and_the_page_says_that_nobody_has_checked_the_zones(wide: Page) -> None:
    assert wide.title() == "Local climate zones: Pfaffenhofen, 2 March 2020"
    assert wide.inner_text("h1").split("\n") == ["Pfaffenhofen", "2 March 2020"]
    assert "Nobody has checked" in wide.inner_text("#unchecked")


def test_the_slider_fades_the_zones(wide: Page) -> None:
    def opacity() -> float:
        return float(wide.locator("canvas.zones").evaluate("canvas => getComputedStyle(canvas).opacity"))

    before = opacity()
    wide.locator("#blend input").fill("10")
    assert (before, opacity()) == (0.65, 0.1)


def test_a_click_in_the_legend_shows_one_zone_alone_and_a_second_click_all(wide: Page) -> None:
    def alphas() -> np.ndarray:
        script = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
        return np.reshape(wide.locator("canvas.zones").evaluate(script), (ROWS, COLUMNS, 4))[..., 3]

    lcz = zones_that_tell_their_place()
    button = wide.locator(f"#legend button:text('{NAMES[10]}')")
    button.click()
    np.testing.assert_array_equal(alphas() == 255, lcz == 11)
    button.click()
    np.testing.assert_array_equal(alphas() == 255, lcz > 0)
    unlike = wide.locator("#reasons button")
    unlike.click()
    np.testing.assert_array_equal(np.argwhere(alphas() == 255), [[8, 13]])
    unlike.click()


def test_black_cells_have_a_light_edge_which_goes_and_fades_with_them(wide: Page) -> None:
    def edges() -> float:
        """Length in sides of a cell."""
        width = wide.locator("canvas.zones").bounding_box()["width"] / COLUMNS
        return float(wide.locator("path.hairline").evaluate("path => path.getTotalLength()")) / width

    is_black = np.pad(zones_that_tell_their_place() == 1 + CODES.index("E"), 1).astype(int)
    sides = sum(np.abs(np.diff(is_black, axis=axis)).sum() for axis in (0, 1))
    assert edges() == pytest.approx(sides, rel=0.02)
    other, own = (wide.locator(f"#legend button:text('{NAMES[CODES.index(code)]}')") for code in "GE")
    other.click()
    assert edges() == 0
    own.click()
    assert edges() == pytest.approx(sides, rel=0.02)
    own.click()
    wide.locator("#blend input").fill("0")
    assert wide.locator("path.hairline").get_attribute("stroke-opacity") == "0"


def test_the_legend_has_areas_and_shares_of_the_zones_that_there_are(wide: Page) -> None:
    lcz = zones_that_tell_their_place()
    text = wide.locator("#legend tbody").inner_text()
    for number in range(1, 18):
        count = int((lcz == number).sum())
        assert re.search(rf"{NAMES[number - 1]}\s+{count / 100:.2f}\s+{100 * count / (lcz > 0).sum():.1f} %", text)


def test_what_is_said_of_model_inputs_agreement_and_cells_is_there(wide: Page) -> None:
    for selector, text in (
        ("header", "The scene is L2A."),
        ("#model", "Sen2LCZ-MF"),
        ("#agreement", "75.2 % agree"),
        ("#reasons", REASONS[5]),
    ):
        assert text in wide.inner_text(selector)
    assert REASONS[Reason.OUTSIDE_AREA] not in wide.inner_text("#reasons")
    lcz = zones_that_tell_their_place()
    assert f"{100 * (lcz > 0).sum() / (lcz.size - 1):.1f} %" in wide.inner_text("header")
    wide.click("#findings summary")
    assert "S2.tif: offset 1000" in wide.inner_text("#findings ul")


@pytest.mark.parametrize("window", ["wide", "narrow"])
def test_nothing_is_wider_than_the_window_and_the_map_is_large(window: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue(window)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator("#map").bounding_box()
    assert box["width"] >= 0.65 * width
    assert box["height"] >= 400
    assert page.locator("#map canvas.zones").bounding_box()["width"] >= 0.6 * box["width"]


@pytest.mark.parametrize("window", ["wide", "narrow"])
def test_the_panel_of_a_cell_covers_nothing_of_the_map(window: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue(window)
    told(page, 8, 12)
    frame, panel = (page.locator(name).bounding_box() for name in ("#map", "#cell"))
    assert frame["x"] + frame["width"] <= panel["x"] or frame["y"] + frame["height"] <= panel["y"]


def test_the_panel_of_a_cell_stays_in_sight_beside_the_map_and_holds_its_text(wide: Page) -> None:
    told(wide, 8, 13)  # with the warning, the longest
    wide.evaluate("scrollTo(0, document.body.scrollHeight)")
    panel = wide.locator("#cell")
    assert wide.evaluate("scrollY") > 0
    assert 0 <= panel.bounding_box()["y"] <= 10
    assert panel.evaluate("element => element.scrollHeight <= element.clientHeight")
    wide.evaluate("scrollTo(0, 0)")


def test_names_from_outside_are_text_and_no_script_but_ours_may_run(
    opened: Callable[..., Page], tmp_path: Path
) -> None:
    hostile = replace(
        STORY,
        title=EVIL,
        days=EVIL,
        model=(EVIL,),
        notices=(EVIL,),
        agreement=(EVIL,),
        findings=(EVIL,),
        files=((EVIL, EVIL),),
    )
    page = opened(write_folder(tmp_path, zones_that_tell_their_place(), hostile))
    assert page.inner_text("h1").split("\n") == [EVIL, EVIL]
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.evil = 1'}))"
    )
    assert page.evaluate("window.evil") is None


def test_a_map_that_is_too_large_for_a_page_is_thinned_and_says_so(
    opened: Callable[..., Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MOST_CELLS", ROWS * COLUMNS // 4)
    lcz = zones_that_tell_their_place()
    page = opened(write_folder(tmp_path, lcz))
    step = 3
    shown = lcz[1::step, 1::step]
    assert f"one cell in {step * step}" in page.inner_text("#thinned")
    page.mouse.move(*middle_of(page, 2, 3, *shown.shape))
    assert page.inner_text("#cell").startswith(f"{CODES[shown[2, 3] - 1]} ")


def test_equal_maps_give_equal_pages(written: Path, tmp_path: Path) -> None:
    assert write_folder(tmp_path, zones_that_tell_their_place()).read_bytes() == written.read_bytes()


def test_a_page_holds_no_more_than_it_needs(written: Path) -> None:
    """Leaflet is 163 kB of it."""
    assert written.stat().st_size < 200_000
