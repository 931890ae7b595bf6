# Table 8, row "ResNeXt-101-64x4d-DCN" with multi-scale testing, paper AP 50.7 (test-dev)
# The same network and training as its parent; test it with --tta. Weights and mean as its parent.
_base_ = ['./atss_x101_64x4d_fpn_dcn_2x.py', '../_base_/multi_scale_testing.py']
# Up to 1000 detections per image are merged; all APs read the best 100, as COCO's own evaluation does.
test_evaluator = dict(proposal_nums=(1, 10, 100))
