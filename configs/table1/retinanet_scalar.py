# Table 1, row "+ Scalar", paper AP 37.0
# Also Table 2, row "IoU, box"; Table 3, row "RetinaNet (#A=1)".
_base_ = './retinanet_centerness.py'
model = dict(bbox_head=dict(with_scale=True))
