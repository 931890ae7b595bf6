# mmdet's ATSS on our head and assigner: its published checkpoint loads key by key.
# mmdet's and not the paper's: anchors on the cells' corners (center_offset 0), tower convs without a bias,
# torchvision's ResNet in RGB, no ReLU before P7, one lr for all parameters, a linear warm-up, 12 epochs.
_base_ = 'mmdet::atss/atss_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['atss_plugin.registry'], allow_failed_imports=False)
model = dict(
    bbox_head=dict(type='atss_plugin.RetinaNetHead', conv_bias=False, anchor_generator=dict(center_offset=0.0)),
    train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner')),
)
# The folder as in _base_/coco_detection.py: `COCO_ROOT=/my/coco mim test mmdet CONFIG --checkpoint ...`
data_root = '{{$COCO_ROOT:data/coco}}'
train_dataloader = dict(dataset=dict(type='atss_plugin.CocoDataset', data_root=data_root))
val_dataloader = dict(dataset=dict(type='atss_plugin.CocoDataset', data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
