# Table 2, row "Intersection over Union, Point", paper AP 36.9
_base_ = '../table1/retinanet_scalar.py'
model = dict(bbox_head=dict(bbox_coder=dict(_delete_=True, type='atss_plugin.AnchorPointCoder')))
