# Aquarium Combined: 638 photographs of two aquariums (National Aquarium, CC BY 4.0), 448 of them to train.
# AQUARIUM_ROOT is the folder of train.json, val.json (COCO's format) and images/ (tools/photographs.py writes it).
_base_ = '../_base_/photographs.py'
data_root = '{{$AQUARIUM_ROOT:data/aquarium}}'
metainfo = dict(classes=('fish', 'jellyfish', 'penguin', 'puffin', 'shark', 'starfish', 'stingray'))

model = dict(bbox_head=dict(num_classes=7))
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=9, val_interval=9)  # about as many iterations as BCCD's twelve epochs
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=9, convert_to_iter_based=True),
]
