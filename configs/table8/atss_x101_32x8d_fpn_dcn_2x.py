# Table 8, row "ResNeXt-101-32x8d-DCN", paper AP 47.7 (test-dev)
# Weights and mean: its parent's; deformable convs take the 3x3 weights, their offsets start at random.
_base_ = './atss_x101_32x8d_fpn_2x.py'
model = dict(
    backbone=dict(
        dcn=dict(type='atss_plugin.DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
    ),  # c4-c5
    bbox_head=dict(dcn_on_last_conv=True),
)
