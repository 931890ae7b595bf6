# The paper's final model in miniature: its head, its assigner and its losses by inheritance, on a small network and on
# the embedded data set, from scratch. What differs is the overlay, the same that miniaturises any other experiment,
# and the anchors: half as large, since the images are less than a third as wide.
_base_ = './atss_r50_fpn_1x.py'
exec(open('{{ fileDirname }}/overlays/shapes.py').read())
model['bbox_head']['anchor_generator'] = dict(octave_base_scale=4)  # noqa: F821
# A few held-out images beside the log, ground truth and detections.
default_hooks['visualization'] = dict(draw=True, interval=4)  # noqa: F821
