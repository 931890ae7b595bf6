# Table 8, row "ResNet-101-DCN", paper AP 46.3 (test-dev)
# Weights and mean: its parent's; deformable convs take the 3x3 weights, their offsets start at random.
_base_ = './atss_r101_fpn_2x.py'
model = dict(
    backbone=dict(
        dcn=dict(type='atss_plugin.DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    ),  # c3-c5
    bbox_head=dict(dcn_on_last_conv=True),
)
