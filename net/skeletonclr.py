"""SkeletonCLR: momentum contrast of two views of a skeleton clip (Li et al., CVPR 2021, section 3.1)."""

from collections.abc import Collection

from net.contrast import MomentumContrast
from net.loss import info_nce
from net.method import Loss, Output
from net.utils.clip import Batch


class SkeletonCLR(MomentumContrast):
    """InfoNCE between two views of a clip: a query by the encoder and a key by its slow copy.

    The keys of other clips in the queue are the negatives. Arguments: see `MomentumContrast`.
    """

    LOSSES = (Loss("info_nce", num_view=2, weight=1.0),)

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`; the first view is the query, the second the key."""
        view, key_view = batch.views
        query, key = self.encoder_q(*view), self.key(key_view)
        (logits,) = self.logits(key, query)
        losses = {"info_nce": info_nce(logits)}
        self.enqueue(key)
        return Output(losses, embedding=query)
