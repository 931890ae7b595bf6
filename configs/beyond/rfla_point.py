# RFLA (arXiv:2208.08738): AP 15.4 to 16.3 on AI-TOD in FCOS on P2 to P6, with FCOS's own losses
_base_ = '../table1/fcos.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.RFLAAssigner')))
