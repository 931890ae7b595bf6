# SimOTA, YOLOX (arXiv:2107.08430): AP 45.0 to 47.3 in a DarkNet-53 with YOLO's decoupled head, IoU and BCE losses
_base_ = '../table1/fcos.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.SimOTAAssigner')))
