# RFLA (arXiv:2208.08738): AP 15.4 to 16.3 on AI-TOD in FCOS on P2 to P6, with FCOS's own losses
_base_ = '../atss_r50_fpn_1x.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.RFLAAssigner')))
