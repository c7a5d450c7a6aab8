"""SkeletonCLR: momentum contrast of two views of a skeleton clip (Li et al., CVPR 2021, section 3.1)."""

from torch import Tensor

from net.contrast import Learnt, MomentumContrast
from net.loss import info_nce


class SkeletonCLR(MomentumContrast):
    """The projection of one view is to be nearer to the slow copy's of another than to other clips'.

    Arguments: see `MomentumContrast`.
    """

    num_view = 2

    def forward(self, views: list[Tensor]) -> Learnt:
        """Loss of (query, key) views, each (N, C, T, V, M)."""
        view, key_view = views
        query = self.encoder_q(view)
        key = self.key(key_view)
        (logits,) = self.logits(key, query)
        losses = {"info_nce": info_nce(logits)}
        self.enqueue(key)
        return Learnt(losses, query)
