# Table 1, row "+ GIoU Loss", paper AP 34.9
# From here on it is the authors' own detector: P6 from P5, both losses divided by the positives of all processes. The
# weight of 2 and these divisors are published for the final model only; read as the same here.
_base_ = './retinanet_gn.py'
model = dict(
    neck=dict(add_extra_convs='on_output'),
    bbox_head=dict(
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
        reg_decoded_bbox=True,
        count_images=False,
        average_over_processes=True,
    ),
)
