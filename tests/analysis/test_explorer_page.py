"""The page for exploring assignments, in a real browser where there is one, against the assigners themselves."""

import json
import shutil

import numpy as np
import pytest

from atss_plugin.analysis.assignment import assign_image
from atss_plugin.analysis.exploration import explore_image, verdicts
from atss_plugin.analysis.explorer_page import describe_image, explore, write_page
from atss_plugin.analysis.sample_definition import definition_of_name
from atss_plugin.cli import main
from tests.analysis.test_analysis import generator, scene  # noqa: F401

FLAGS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--window-size=1440,1000',
)


def positives(result, k_index):
    """The positives of one k as the page has them: {(ground truth, level, x, y)}."""
    priors = result['priors']
    return {
        (number, priors['level'][row], priors['x'][row], priors['y'][row])
        for number, entry in enumerate(result['objects'])
        for row, _, letters in entry['pairs']
        if letters[k_index] == 'p'
    }


@pytest.mark.parametrize(
    'name', ['ATSS', 'mmdet.ATSSAssigner:topk=9', 'CenterSampling', 'TopKIoU', 'IoU', 'SSC', 'RFLA']
)
def test_what_the_page_holds_is_what_the_assigner_does_for_every_k(generator, name):  # noqa: F811
    truth, definition = scene(3), definition_of_name(name, generator)
    result = explore_image(definition, truth, (3, 15))
    has_k = name not in ('IoU', 'SSC', 'RFLA')
    assert result['k'] == ([3, 9, 15] if has_k else [None])
    base = name.partition(':')[0]
    for column, k in enumerate(result['k']):
        again = definition_of_name(f'{base}:topk={k}' if has_k else base, generator)
        grid, gt_inds = again.grid(truth.pad_shape), again.assign([truth])[0]
        expected = {
            (int(gt_inds[i]) - 1, int(grid.level[i]), *(round(float(value), 1) for value in grid.centers()[i]))
            for i in (gt_inds > 0).nonzero().flatten()
        }
        assert positives(result, column) == expected and expected
        assert result['ignored'][column] == int((gt_inds < 0).sum())


def test_the_reasons_against_candidates_are_those_of_algorithm_1(generator):  # noqa: F811
    """Every candidate is named once, by a loop over Algorithm 1."""
    truth = scene(3, count=40)
    assignment = assign_image(definition_of_name('ATSS', generator), truth)
    candidates, gt_inds = assignment.candidates, assignment.gt_inds
    centers, expected = assignment.grid.centers(), {}
    for gt, box in enumerate(truth.bboxes.tolist()):
        for column in range(candidates.prior.size(1)):
            prior = int(candidates.prior[gt, column])
            x, y = centers[prior].tolist()
            if candidates.iou[gt, column] < candidates.threshold[gt]:
                letter = 'b'
            elif min(x - box[0], y - box[1], box[2] - x, box[3] - y) <= 0.01:
                letter = 'o'
            else:
                letter = 'p' if gt_inds[prior] == gt + 1 else 't'
            expected[gt, prior] = letter
    assert verdicts(assignment) == expected
    assert set(expected.values()) == {'b', 'o', 'p', 't'}


def test_statistics_are_those_of_the_iou_that_the_page_shows(generator):  # noqa: F811
    result = explore_image(definition_of_name('ATSS', generator), scene(3), (3, 19))
    for entry in result['objects']:
        for column, (mean, std, threshold) in enumerate(entry['statistics']):
            ious = np.array([iou for _, iou, letters in entry['pairs'] if letters[column] != '.'])
            # the page's IoUs have three digits
            assert ious.mean() == pytest.approx(mean, abs=6e-4) and ious.std(ddof=1) == pytest.approx(std, abs=6e-4)
            assert threshold == pytest.approx(mean + std, abs=2e-4)


def make_page(path, generator, count, names):  # noqa: F811
    truth = scene(3, shape=(480, 640), count=count)
    truth.labels[:] = np.arange(len(truth.labels)) % 2
    image = np.full((480, 640, 3), 200, np.uint8)
    definitions = explore([definition_of_name(name, generator) for name in names], [truth])
    images = [describe_image(truth, image, ('</script><b>cat', 'dog'))]
    write_page('A <title>', images, definitions, path)
    return truth, definitions


def test_a_page_with_80_boxes_is_one_small_file(generator, tmp_path):  # noqa: F811
    path = tmp_path / 'page.html'
    make_page(path, generator, 80, ['ATSS', 'IoU', 'SSC', 'CenterSampling'])
    text = path.read_text()
    assert len(text.encode()) < 8e6
    assert (
        text.count('</script>') == 3
    )  # the bundle, the data and the page's own script: no class name ends one of them
    data = json.loads(text.split('id="data">')[1].split('</script>')[0])
    assert data['images'][0]['classes'][0] == '</script><b>cat' and len(data['images'][0]['boxes']) > 70
    own = text.split('id="data">')[1]
    assert 'http' not in own.replace('http://www.w3.org', '')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """A headless Chromium."""
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium drives the browser: pip install selenium')
    binary, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not (binary and driver):
        pytest.skip("no chromium and chromedriver (Debian's packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f'--user-data-dir={tmp_path_factory.mktemp("chromium")}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


class Page:
    """The page as its user sees it."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.get_log('browser')  # of earlier pages
        browser.get(path.as_uri())

    def points(self, side, name, figure='map'):
        """(n, 2) the points that are drawn under a name."""
        script = (
            'const t = document.querySelector(`#panel${arguments[0]} .${arguments[2]}`).data'
            '.find(t => t.name === arguments[1]); return t ? [[...t.x], [...t.y]] : [[], []]'
        )
        return np.array(self.browser.execute_script(script, side, name, figure), dtype=float).T

    def text(self, side, name):
        return self.browser.find_element('css selector', f'#panel{side} .{name}').text

    def choose(self, selector, text):
        from selenium.webdriver.support.ui import Select

        Select(self.browser.find_element('css selector', selector)).select_by_visible_text(text)

    def click_at(self, side, x, y):
        """Click where a pixel of the image is shown."""
        from selenium.webdriver import ActionChains

        script = (
            'const m = document.querySelector(`#panel${arguments[0]} .map`), b = m.getBoundingClientRect(), '
            '{xaxis, yaxis} = m._fullLayout; return [b.width / 2, b.height / 2, xaxis._offset + '
            'xaxis.d2p(arguments[1]), yaxis._offset + yaxis.d2p(arguments[2])]'
        )
        half_width, half_height, left, top = self.browser.execute_script(script, side, x, y)
        figure = self.browser.find_element('css selector', f'#panel{side} .map')
        shift = round(left - half_width), round(top - half_height)
        ActionChains(self.browser).move_to_element_with_offset(figure, *shift).click().perform()

    def errors(self):
        return [entry for entry in self.browser.get_log('browser') if entry['level'] in ('SEVERE', 'WARNING')]


def centers(definition, truth, level=None, number=None):
    """{(x, y)} of the positives, of a level or of an object, as the assigner gives them."""
    grid, gt_inds = definition.grid(truth.pad_shape), definition.assign([truth])[0]
    kept = gt_inds > 0 if number is None else gt_inds == number + 1
    kept = kept if level is None else kept & (grid.level == level)
    return {tuple(round(value, 1) for value in center) for center in grid.centers()[kept].tolist()}


def as_set(points):
    return {tuple(point) for point in points.tolist()}


@pytest.mark.slow
def test_the_page_in_a_browser(browser, generator, tmp_path):  # noqa: F811
    names = ['ATSS', 'IoU', 'SSC']
    truth, _ = make_page(tmp_path / 'page.html', generator, 12, names)
    definitions = {name: definition_of_name(name, generator) for name in names}
    page = Page(browser, tmp_path / 'page.html')
    assert browser.title == 'A <title>'
    # two definitions side by side
    for side, name in enumerate(('ATSS', 'IoU')):
        assert as_set(page.points(side, 'positives')) == centers(definitions[name], truth)
    # the menus change what is drawn
    page.choose('#panel1 .definition', 'SSC')
    assert as_set(page.points(1, 'positives')) == centers(definitions['SSC'], truth)
    page.choose('#level', 'P4')
    for side, name in enumerate(('ATSS', 'SSC')):
        assert as_set(page.points(side, 'positives')) == centers(definitions[name], truth, level=1)
    page.choose('#level', 'all levels')
    # the slider changes k
    slider = browser.find_element('css selector', '#panel0 .slider')
    slider.send_keys('\ue012')  # arrow left
    assert browser.find_element('css selector', '#panel0 output').text == '7'
    assert as_set(page.points(0, 'positives')) == centers(definition_of_name('ATSS:topk=7', generator), truth)
    slider.send_keys('\ue014')
    assert page.errors() == []


@pytest.mark.slow
def test_a_click_shows_the_candidates_of_an_object(browser, generator, tmp_path):  # noqa: F811
    truth, _ = make_page(tmp_path / 'page.html', generator, 12, ['ATSS', 'IoU'])
    definition = definition_of_name('ATSS', generator)
    assignment = assign_image(definition, truth)
    page = Page(browser, tmp_path / 'page.html')
    # the smallest of the boxes that hold the point: the one whose centre it is, of the smallest box
    sizes = np.prod(truth.bboxes[:, 2:] - truth.bboxes[:, :2], axis=1)
    sizes[sizes < 300] = np.inf  # wide enough for the pointer
    number = int(sizes.argmin())
    box = truth.bboxes[number]
    page.click_at(0, *((box[:2] + box[2:]) / 2).tolist())
    selected = browser.find_element('css selector', 'tr[aria-selected="true"]')
    assert selected.get_attribute('data-number') == str(number)
    candidates, mine = assignment.candidates, centers(definition, truth, number=number)
    index = candidates.prior[number]
    every = {tuple(round(v, 1) for v in center) for center in assignment.grid.centers()[index].tolist()}
    assert as_set(page.points(0, 'positives')) == mine
    assert as_set(page.points(0, 'candidates')) | mine == every
    drawn = np.concatenate([page.points(0, name, 'chart')[:, 1] for name in ('candidates', 'positives')])
    expected = candidates.iou[number].numpy()
    np.testing.assert_allclose(np.sort(drawn), np.sort(expected), atol=6e-4)
    facts = page.text(0, 'facts')
    for value in (candidates.mean[number], candidates.std[number], candidates.threshold[number]):
        assert f'{float(value):.3f}' in facts
    # a second click shows everything again
    page.click_at(0, *((box[:2] + box[2:]) / 2).tolist())
    assert as_set(page.points(0, 'positives')) == centers(definition, truth)
    assert not len(page.points(0, 'candidates')) and page.errors() == []


@pytest.mark.slow
def test_the_command_and_images_without_an_object(browser, tmp_path, capsys):
    page = tmp_path / 'new' / 'page.html'
    words = ['explore', 'miniature.py', '--index', '2', '5', '--out', str(page)]
    assert main(words) == 0 and 'MB' in capsys.readouterr().err
    shown = Page(browser, page)
    assert not browser.find_element('css selector', '#panel1').is_displayed()  # one definition
    first = as_set(shown.points(0, 'positives'))
    shown.choose('#image', browser.find_elements('css selector', '#image option')[1].text)
    assert first and as_set(shown.points(0, 'positives')) != first
    annotations = tmp_path / 'none.json'
    annotations.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='a.jpg', height=48, width=64)],
                annotations=[],
                categories=[dict(id=1, name='thing')],
            )
        )
    )
    assert main(['explore', 'miniature.py', '--ann', str(annotations), '--out', str(page)]) == 0
    shown.browser.get(page.as_uri())
    assert not len(shown.points(0, 'positives')) and shown.errors() == []


@pytest.mark.parametrize(
    'words, message',
    [
        pytest.param(['--index', '1', '1500'], '--index 1500: the data set has the images 0 to 1499', id='index'),
        pytest.param(['--k', '0', '3'], 'k is at least 1', id='k'),
    ],
)
def test_bad_input(words, message, tmp_path, capsys):
    assert main(['explore', 'miniature.py', *words, '--out', str(tmp_path / 'page.html')]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / 'page.html').exists()
