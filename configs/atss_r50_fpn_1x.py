# Table 3, row "RetinaNet (#A=1) + ATSS", paper AP 39.3
# Also Table 4, row "k = 9"; Table 5, row "8"; Table 6, row "1:1"; Table 7, row "Imprs. + ATSS, #sc=1, #ar=1".
_base_ = [
    './_base_/retinanet_r50_fpn.py',
    './_base_/coco_detection.py',
    './_base_/schedule_90k.py',
    './_base_/default_runtime.py',
]
model = dict(train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9)))
