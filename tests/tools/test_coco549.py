"""tools/coco549.py takes the images of the documentation's statistics from COCO's own files."""

import json

import pytest

from tools import coco549


def write(path, ids):
    images = [dict(id=i, file_name=f'{i:012d}.jpg', width=640, height=480) for i in ids]
    boxes = [
        dict(id=10 * i + k, image_id=i, category_id=1, bbox=[0, 0, 9, 9], iscrowd=0) for i in ids for k in range(2)
    ]
    path.write_text(json.dumps(dict(images=images, annotations=boxes, categories=[dict(id=1, name='person')])))
    return path


def test_the_images_and_their_boxes_come_from_both_splits(tmp_path, capsys):
    ids = json.loads(coco549.IMAGES.read_text())
    assert len(ids) == len(set(ids)) == 549
    train, val = write(tmp_path / 'train.json', [*ids[1::2], 1]), write(tmp_path / 'val.json', [2, *ids[::2]])
    coco549.main([str(train), str(val), '--out', str(tmp_path / 'COCO549.json')])
    assert '549 images, 1098 boxes' in capsys.readouterr().out
    chosen = json.loads((tmp_path / 'COCO549.json').read_text())
    assert [image['id'] for image in chosen['images']] == ids
    assert {label['image_id'] for label in chosen['annotations']} == set(ids)
    with pytest.raises(SystemExit, match='274 images are in none of these files, such as 25'):
        coco549.main([str(val), '--out', str(tmp_path / 'half.json')])
