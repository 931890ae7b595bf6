# Table 1, row "+ GroupNorm", paper AP 33.4
# The paper does not say where P6 comes from here; read as in the row above: C5.
_base_ = './retinanet.py'
model = dict(bbox_head=dict(norm_cfg=dict(_delete_=True, type='GN', num_groups=32, requires_grad=True)))
