# Table 3, row "FCOS + Center sampling", paper AP 38.6
# The lite version of ATSS: the 9 anchor points per level nearest to the centre of the box. The variant merged
# into FCOS is radius=1.5.
_base_ = '../table1/fcos.py'
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.CenterSamplingAssigner', topk=9)))
