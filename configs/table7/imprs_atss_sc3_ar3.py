# Table 7, row "+ Imprs. + ATSS, #sc=3, #ar=3", paper AP 39.2
_base_ = './imprs_a9.py'
# k counts locations: with 9 anchors each, 81 candidates per level.
model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='atss_plugin.ATSSAssigner', topk=9)))
