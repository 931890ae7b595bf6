"""How boxes are distributed on COCO, as quantiles; written by ``tools/coco_boxes.py``, not by hand.

From the annotations of 549 images of COCO 2017 with 4710 boxes (crowd regions left out), cocodataset.org,
CC BY 4.0. The quantiles of every list are those of PERCENT. NUMBER is of boxes in an image that has any. SIZE is the
square root of a box's area in pixels of the input (shorter side 800, longer side at most 1333), ASPECT its width in
percent of its height, INSIDE the percentage of it that lies inside one larger box of the image. SIZE is listed by the
least number of boxes in the image, ASPECT and INSIDE by the least size of the box.
"""

PERCENT = (0, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 100)
NUMBER = (1, 1, 1, 1, 2, 2, 3, 4, 6, 8, 10, 14, 20, 24, 33, 39, 51)
SIZE = {
    1: (12, 23, 26, 51, 69, 135, 189, 265, 325, 389, 476, 608, 717, 816, 916, 965, 998),
    4: (8, 18, 21, 31, 49, 77, 107, 139, 189, 247, 314, 408, 565, 713, 866, 916, 980),
    8: (4, 12, 15, 21, 27, 40, 55, 75, 101, 131, 173, 233, 363, 491, 683, 793, 981),
    16: (4, 11, 13, 17, 22, 32, 41, 50, 63, 82, 108, 151, 225, 314, 471, 595, 882),
}
ASPECT = {
    0: (5, 13, 17, 23, 30, 40, 50, 65, 81, 99, 122, 160, 227, 339, 615, 768, 2058),
    64: (6, 17, 20, 28, 36, 46, 58, 72, 88, 106, 132, 163, 233, 324, 461, 638, 1337),
    256: (11, 23, 28, 34, 43, 56, 69, 82, 94, 109, 130, 154, 203, 269, 364, 439, 825),
}
INSIDE = {
    0: (0, 0, 0, 0, 0, 0, 0, 2, 24, 48, 86, 100, 100, 100, 100, 100, 100),
    64: (0, 0, 0, 0, 0, 0, 1, 20, 41, 67, 94, 100, 100, 100, 100, 100, 100),
    256: (0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 37, 68, 98, 100, 100, 100, 100),
}
