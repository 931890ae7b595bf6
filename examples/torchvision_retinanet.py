"""ATSS in torchvision's RetinaNet, without mmdetection: ``python -m examples.torchvision_retinanet``.

torchvision's model matches anchors by a fixed IoU in ``compute_loss``; here ATSS does it.  Everything else is
torchvision's.
"""

from typing import Dict, List

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from atss_plugin.matching import PyramidCache, atss, collect

# Finding the levels of the anchors reads them; for every size of image that is done once.
PYRAMIDS = PyramidCache()


class ATSSRetinaNet(RetinaNet):
    """torchvision's RetinaNet whose positives are chosen by ATSS."""

    def compute_loss(
        self, targets: List[Dict[str, Tensor]], head_outputs: Dict[str, Tensor], anchors: List[Tensor]
    ) -> Dict[str, Tensor]:
        """Return the losses of torchvision's head for the anchors that ATSS makes positive."""
        return self.head.compute_loss(targets, head_outputs, anchors, match(targets, anchors[0]))


def match(targets: List[Dict[str, Tensor]], anchors: Tensor, topk: int = 9) -> List[Tensor]:
    """Return the matches of every image as torchvision writes them: (N,), the ground truth of each anchor or -1.

    Args:
        targets (list[dict]): ``boxes`` (G, 4) xyxy in pixels and ``labels`` (G,) of each image.
        anchors (Tensor): (N, 4), the same for all images, which are padded to one size.
        topk (int): the candidate locations on each level.
    """
    gts = collect([t['boxes'] for t in targets], [t['labels'] for t in targets], anchors)
    return list(atss(PYRAMIDS.get(anchors), gts, topk).gt_inds - 1)


def build(num_classes: int, size: int) -> ATSSRetinaNet:
    """Return a small model with random weights for images of ``size``; one square anchor per location."""
    backbone = resnet_fpn_backbone(
        backbone_name='resnet18',
        weights=None,
        norm_layer=torch.nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    anchors = AnchorGenerator(tuple((8 * stride,) for stride in (8, 16, 32, 64, 128)), ((1.0,),) * 5)
    return ATSSRetinaNet(backbone, num_classes, min_size=size, max_size=size, anchor_generator=anchors)


def train(model: RetinaNet, images: List[Tensor], targets: List[Dict[str, Tensor]], steps: int) -> List[float]:
    """Train on one batch and return the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    history = []
    for _ in range(steps):
        loss = torch.stack(list(model(images, targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


def toy() -> Dict[str, Tensor]:
    """Return an image (3, 128, 128) of two bright rectangles on noise, and their boxes and labels."""
    boxes = torch.tensor([[10.3, 20.1, 62.4, 75.4], [70.2, 50.6, 120.9, 90.9]])
    image = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.3
    for x1, y1, x2, y2 in boxes.round().int().tolist():
        image[:, y1:y2, x1:x2] += 0.6
    return dict(image=image, boxes=boxes, labels=torch.tensor([1, 1]))


def main() -> None:
    """Train on the toy image and print every fifth loss."""
    torch.manual_seed(0)
    example, model = toy(), build(num_classes=2, size=128)
    images, targets = [example['image']], [{key: example[key] for key in ('boxes', 'labels')}]
    history = train(model.train(), images, targets, steps=30)
    print('loss', ' '.join(f'{loss:.2f}' for loss in history[::5]), f'... {history[-1]:.2f}')


if __name__ == '__main__':
    main()
