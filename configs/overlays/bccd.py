# BCCD: 364 microscope photographs of blood cells (github.com/Shenggan/BCCD_Dataset, MIT), 291 of them to train.
# BCCD_ROOT is the folder of train.json, val.json (COCO's format) and images/ (tools/photographs.py writes it).
_base_ = '../_base_/photographs.py'
data_root = '{{$BCCD_ROOT:data/bccd}}'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

model = dict(bbox_head=dict(num_classes=3))
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/val.json')
test_evaluator = val_evaluator
