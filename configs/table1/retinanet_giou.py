# Table 1, row "+ GIoU Loss", paper AP 34.9
_base_ = './retinanet_gn.py'
model = dict(
    bbox_head=dict(
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0), reg_decoded_bbox=True, count_images=False
    )
)  # from here on both losses are divided by the positives
