# Table 1, row "FCOS", paper AP 37.8
# Also Table 2, row "SSC, point"; Table 3, row "FCOS".
# FCOS is the improved RetinaNet (#A=1) with two switches changed, coder and assigner, and nothing else.
_base_ = './retinanet_scalar.py'
model = dict(
    # regress from a point
    bbox_head=dict(bbox_coder=dict(_delete_=True, type='atss_plugin.AnchorPointCoder')),
    # scale ranges decide
    train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.SpatialScaleAssigner')),
)
