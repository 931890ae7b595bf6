# The authors' checkpoint atss_dcnv2_R_50_FPN_1x, converted; to evaluate, not to train.
_base_ = './atss_R_50_FPN_1x.py'
model = dict(
    backbone=dict(
        dcn=dict(type='atss_plugin.DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    ),  # c3-c5
    bbox_head=dict(dcn_on_last_conv=True),
)
