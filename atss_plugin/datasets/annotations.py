"""What is wrong with a file of annotations in COCO's format, said before anything is computed from it.

https://cocodataset.org/#format-data
"""

import json
from math import isfinite
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn

from ..errors import UsageError

NUMBERS = {int, float}  # what json makes of numbers
MAX_SIDE = 2**20  # pixels; OpenCV reads no larger image


class Rule(NamedTuple):
    """What a value has to be: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _id(value: Any) -> bool:
    return isinstance(value, str) or _number(value) and value == int(value)


def _pixels(value: Any) -> bool:
    return _number(value) and 0 < value <= MAX_SIDE and value == int(value)


def _box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_number, value))


ID = Rule('a whole number or a text', _id)
TEXT = Rule('a text that is not empty', lambda value: isinstance(value, str) and value != '')
PIXELS = Rule(f'a whole number of pixels, 1 to {MAX_SIDE}', _pixels)
BOX = Rule('four finite numbers, [x, y, width, height] in pixels', _box)
AREA = Rule('a finite number, the area in pixels', _number)
CROWD = Rule('0 or 1', lambda value: value in (0, 1))

NEEDED = {
    'images': dict(id=ID, file_name=TEXT, height=PIXELS, width=PIXELS),
    'annotations': dict(id=ID, image_id=ID, category_id=ID, bbox=BOX),
    'categories': dict(id=ID, name=TEXT),
}
OPTIONAL = dict(area=AREA, iscrowd=CROWD)


def read_annotations(file: str, for_evaluation: bool = False) -> dict:
    """Return the content of a COCO json, with areas where it has none.

    Args:
        file: the json.
        for_evaluation: the same file is read again by pycocotools' evaluation, which lets the annotations be missing
            as a whole (test-dev), but does not compute an ``area`` and cannot do without ``iscrowd``.

    Raises:
        UsageError: the file is cut off or is something else, or an entry lacks a key or has a value of the wrong kind.
            The message names the entry and what belongs there.
    """
    with open(file, encoding='utf-8') as stream:
        try:
            content = json.load(stream)
        except ValueError as error:  # json's and Unicode's errors, with line and column
            raise UsageError(f'it is not a whole JSON file ({error}). Export or copy it again.') from error
        except RecursionError as error:
            raise UsageError('it is not a COCO json: its lists are nested too deeply.') from error
    check_annotations(content, for_evaluation)
    for annotation in content.get('annotations', ()):
        if 'area' not in annotation:  # that of the box: masks are not looked at
            annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]
    return content


def check_annotations(content: Any, for_evaluation: bool = False) -> None:
    """Raise a UsageError for the first entry of a COCO json that cannot be used; see :func:`read_annotations`."""
    if for_evaluation and isinstance(content, dict) and 'annotations' not in content:
        content = {**content, 'annotations': []}
    if not isinstance(content, dict) or not set(NEEDED) <= set(content):
        raise UsageError('it is not a COCO json: it lacks "images", "annotations" or "categories".')
    for part in NEEDED:
        if not isinstance(content[part], list):
            raise UsageError(f'"{part}" is {_show(content[part])} where a list belongs.')
    for part, is_sound in (('images', _image_is_sound), ('annotations', _annotation_is_sound), ('categories', None)):
        for number, entry in enumerate(content[part]):
            if is_sound is None or not is_sound(entry):
                _check_entry(part, number, entry)
        _check_ids(part, content[part])
    if for_evaluation:
        _check_evaluation(content['annotations'])


# Nearly all of a million entries are as they should be, and one expression can tell that; what these two functions do
# not pass is checked by the rules above. They may doubt what the rules allow, but must not allow what the rules forbid.


def _image_is_sound(image: Any) -> bool:
    try:
        return (
            type(image['id']) is type(image['height']) is type(image['width']) is int
            and 0 < image['height'] <= MAX_SIDE
            and 0 < image['width'] <= MAX_SIDE
            and type(image['file_name']) is str
            and image['file_name'] != ''
        )
    except (KeyError, TypeError):
        return False


def _annotation_is_sound(annotation: Any) -> bool:
    try:
        (x, y, width, height), area = annotation['bbox'], annotation.get('area', 0)
        return (
            type(annotation['id']) is type(annotation['image_id']) is type(annotation['category_id']) is int
            and {type(x), type(y), type(width), type(height), type(area)} <= NUMBERS
            and isfinite(x + y + width + height + area)
            and annotation.get('iscrowd', 0) in (0, 1)
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def _check_entry(part: str, number: int, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise UsageError(f'{part}[{number}] is {_show(entry)} where an object belongs.')
    for key, rule in NEEDED[part].items():
        if key not in entry:
            _refuse(part, number, entry, f'lacks "{key}": it must be {rule.words}')
        _check_value(part, number, entry, key, rule)
    for key, rule in OPTIONAL.items():
        if part == 'annotations' and key in entry:
            _check_value(part, number, entry, key, rule)


def _check_value(part: str, number: int, entry: Dict[str, Any], key: str, rule: Rule) -> None:
    try:
        holds = rule.holds(entry[key])
    except OverflowError:  # an integer of more than 308 digits
        holds = False
    if not holds:
        _refuse(part, number, entry, f'has {_show(entry[key])} as "{key}": it must be {rule.words}')


def _check_ids(part: str, entries: List[dict]) -> None:
    """Refuse an id that is given twice; pycocotools silently takes the last of the entries that share one."""
    if len({entry['id'] for entry in entries}) == len(entries):
        return
    first: Dict[Any, int] = {}
    for number, entry in enumerate(entries):
        if first.setdefault(entry['id'], number) != number:
            _refuse(part, number, entry, f'has the id of {part}[{first[entry["id"]]}]: give every entry its own')


def _check_evaluation(annotations: List[dict]) -> None:
    """Refuse what COCO's evaluation, which reads the file by itself, cannot sort by size or set apart as a crowd."""
    for key, hint in (('area', 'that of the object in pixels'), ('iscrowd', '0, or 1 for a group in one box')):
        for number, annotation in enumerate(annotations):
            if key not in annotation:
                _refuse(
                    'annotations', number, annotation, f'lacks "{key}", which COCO\'s evaluation needs: write {hint}'
                )


def _refuse(part: str, number: int, entry: dict, what: str) -> NoReturn:
    name = ', '.join(f'{key} {_show(entry[key])}' for key in ('id', 'image_id', 'file_name') if key in entry)
    raise UsageError(f'{part}[{number}]{f" ({name})" if name else ""} {what}. Correct or remove that entry.')


def _show(value: Any, length: int = 60) -> str:
    """Return a value as JSON writes it, cut to a length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f'{text[:length]}…'
