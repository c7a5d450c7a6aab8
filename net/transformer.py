"""A spatio-temporal transformer: self-attention over tokens of P frames x 1 joint (as in MAMP, Mao et al., ICCV 2023).

N clips, C channels, T frames, V joints, M bodies of a clip, B bodies of all clips, P frames of a token, T' = T / P,
S = T' * V tokens of a body, K tokens that are encoded, D channels of the feature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.encoder import Features
from net.tokens import TokenEncoder, patchify, take_tokens
from net.utils.clip import Clip
from net.utils.layouts import get_skeleton
from net.utils.tracing import is_traced

# Most tokens for which a CPU computes attention by products; for more, torch's fused kernel is faster.
MAX_EXPLICIT = 256


class Model(TokenEncoder):
    """Pre-norm transformer blocks on the tokens of each body, the mean over tokens and bodies, and a linear head.

    Bodies are encoded apart. A token without a frame in which its body is present is hidden from all others, and does
    not count in the mean.

    in_channels: C.
    num_class: scores to give.
    layout: of the joints.
    patch: P.
    max_frame: frames of the longest clip. For a shorter clip the positions in time are interpolated.
    width: D.
    depth: number of blocks.
    num_head: heads of attention.
    mlp_ratio: width of the hidden layer of a block's MLP, as a multiple of D.
    drop_path: probability of skipping a branch of the last block for a body in training. It grows from 0 at the first
        block, if there are several.

    Raises ValueError for sizes below 1, a width that the heads do not divide, a max_frame that P does not divide, or an
    mlp_ratio or drop_path out of range.
    """

    HEAD = "fc"

    def __init__(
        self,
        in_channels: int = 3,
        num_class: int = 60,
        *,
        layout: str = "ntu-rgb+d",
        patch: int = 4,
        max_frame: int = 120,
        width: int = 256,
        depth: int = 8,
        num_head: int = 8,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(patch=patch, max_frame=max_frame, depth=depth)
        check_heads(("width", width), ("num_head", num_head))
        if max_frame % patch:
            raise ValueError(f"max_frame is {max_frame}; give a multiple of patch, which is {patch}")
        if round(mlp_ratio * width) < 1:
            raise ValueError(f"mlp_ratio is {mlp_ratio}; give more, so that the MLP has a channel")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path is {drop_path}; give 0 to below 1")
        self.in_channels, self.feature_dim = in_channels, width
        self.patch, self.max_frame = patch, max_frame
        self.num_joint = get_skeleton(layout).num_joint
        self.embed = nn.Linear(patch * in_channels, width)
        self.position = Position(max_frame // patch, self.num_joint, width=width)
        self.blocks = Blocks(width, depth, num_head=num_head, mlp_ratio=mlp_ratio, drop_path=drop_path)
        self.fc = nn.Linear(width, num_class)
        initialise_linear(self)

    @property
    def varies_batch(self) -> bool:
        """See `Encoder`; absent bodies are left out."""
        return True

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`: the embeddings, then the blocks."""
        first = [*self.embed.parameters(), *self.position.parameters()]
        return [first, *(list(block.parameters()) for block in self.blocks.layers)]

    def encode(self, clip: Clip, keep: Tensor | None = None) -> Features:
        """See `TokenEncoder`; the tokens of all S are a grid of T' by V."""
        bodies, present, mask = self.split(clip)
        patches, counted = patchify(bodies, self.patch), self.counted(present)
        num_time = bodies.shape[1] // self.patch
        position = self.position(num_time)
        if keep is None:
            tokens = self.embed(patches) + position
        else:
            index = keep.clamp(min=0)
            tokens = self.embed(take_tokens(patches, index)) + position[index]
            counted = counted.gather(1, index) & (keep >= 0)
        # Without a mask, attention is faster. A recorded graph must not depend on the clips.
        shown = None if not is_traced() and bool(counted.all()) else counted
        grid = (num_time, self.num_joint) if keep is None else None
        return Features(self.blocks(tokens, shown), clip.x.shape[0], grid, mask, shown)


def check_sizes(**sizes: int) -> None:
    """Raise ValueError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give 1 or more")


def check_heads(width: tuple[str, int], num_head: tuple[str, int]) -> None:
    """Raise ValueError unless a width is a multiple of a number of heads. Each comes with its name for the error."""
    check_sizes(**dict((width, num_head)))
    if width[1] % num_head[1]:
        raise ValueError(
            f"{width[0]} is {width[1]}; give a multiple of {num_head[0]}, which is {num_head[1]}"
        )


def initialise_linear(network: nn.Module) -> None:
    """Xavier initialisation of all linear layers, biases 0, as in MAE (He et al., CVPR 2022)."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


class Position(nn.Module):
    """Learned embeddings of a token's time and joint, added to it.

    num_time: T' of the longest clip.
    num_joint: V.
    width: D.
    """

    def __init__(self, num_time: int, num_joint: int, *, width: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.empty(num_time, width))
        self.joint = nn.Parameter(torch.empty(num_joint, width))
        for embedding in (self.time, self.joint):
            nn.init.trunc_normal_(embedding, std=0.02)

    def forward(self, num_time: int) -> Tensor:
        """Embeddings (S, D) of the tokens of a clip with `num_time` times; see `interpolate_times`."""
        return (interpolate_times(self.time, num_time)[:, None] + self.joint).flatten(0, 1)


def interpolate_times(embedding: Tensor, num_time: int) -> Tensor:
    """Embeddings (T', D) of other times, (num_time, D): the whole clip is stretched, linear between the middles."""
    if num_time == embedding.shape[0]:
        return embedding
    return F.interpolate(embedding.T[None], size=num_time, mode="linear")[0].T


class Blocks(nn.Module):
    """Pre-norm transformer blocks and a final layer norm."""

    def __init__(
        self, width: int, depth: int, *, num_head: int, mlp_ratio: float = 4.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        rates = [drop_path * index / (depth - 1) for index in range(depth)] if depth > 1 else [drop_path]
        hidden = round(mlp_ratio * width)
        self.layers = nn.ModuleList(Block(width, num_head, hidden=hidden, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, counted: Tensor | None = None) -> Tensor:
        """Tokens (B, S, D) after all blocks. Those that are not `counted` (B, S) are hidden from all others."""
        bias = None
        if counted is not None:
            # Not minus infinity: a body without counted tokens, as in recorded graphs, would become NaN.
            bias = torch.zeros(counted.shape, dtype=tokens.dtype, device=tokens.device)
            bias = bias.masked_fill(~counted, -1e4)[:, None, None]
        for block in self.layers:
            tokens = block(tokens, bias)
        return self.norm(tokens)


class Block(nn.Module):
    """Self-attention and an MLP, each added to its input, which is normalised first (Xiong et al., ICML 2020)."""

    def __init__(self, width: int, num_head: int, *, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, num_head)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop_path = drop_path

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """Tokens (B, S, D); `bias` as for `Attention`."""
        tokens = tokens + self._drop(self.attention(self.norm1(tokens), bias))
        return tokens + self._drop(self.mlp(self.norm2(tokens)))

    def _drop(self, branch: Tensor) -> Tensor:
        """The branch, 0 for randomly drawn bodies in training (stochastic depth, Huang et al., ECCV 2016)."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * (kept / (1 - self.drop_path)).to(branch.dtype)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., NeurIPS 2017, section 3.2.2)."""

    def __init__(self, width: int, num_head: int) -> None:
        super().__init__()
        self.num_head = num_head
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """From tokens (B, S, D) to (B, S, D); `bias` (B, 1, 1, S) is added to the logits of each token as a key."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.num_head, -1)).permute(2, 0, 3, 1, 4)
        if tokens.device.type == "cpu" and tokens.shape[1] <= MAX_EXPLICIT:
            logits = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
            mixed = (logits if bias is None else logits + bias).softmax(-1) @ value
        else:
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=None if bias is None else bias.to(query.dtype)
            )
        return self.proj(mixed.transpose(1, 2).flatten(2))
