# Table 3, row "FCOS + ATSS", paper AP 39.2
_base_ = '../table1/fcos.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.ATSSAssigner', topk=9)))
