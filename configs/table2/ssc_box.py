# Table 2, row "Spatial and Scale Constraint, Box", paper AP 37.8
_base_ = '../table1/retinanet_scalar.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.SpatialScaleAssigner')))
