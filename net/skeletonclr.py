"""SkeletonCLR: momentum contrast of two views of a skeleton clip (Li et al., CVPR 2021, section 3.1)."""

from collections.abc import Sequence

from torch import Tensor

from net.contrast import Learnt, MomentumContrast
from net.loss import info_nce


class SkeletonCLR(MomentumContrast):
    """The projection of one view is to be nearer to the slow copy's of another than to other clips'.

    Arguments: see `MomentumContrast`.
    """

    num_view = 2

    def forward(self, views: list[Tensor], present: Sequence[Tensor | None]) -> Learnt:
        """Loss of (query, key) views, each (N, C, T, V, M); see `SelfSupervised`."""
        (view, of_view), (key_view, of_key) = zip(views, present, strict=True)
        query = self.encoder_q(view, of_view)
        key = self.key(key_view, of_key)
        (logits,) = self.logits(key, query)
        losses = {"info_nce": info_nce(logits)}
        self.enqueue(key)
        return Learnt(losses, query)
