"""The decoder of masked methods: what stands at each token, in which place, and what hides from what."""

import torch
from test_transformer import encode_slowly

from net.masked_decoder import Decoder
from net.transformer import Model


def test_the_vector_of_hidden_tokens_is_not_zero():
    torch.manual_seed(0)
    encoder = Model(layout="kinect-v1", patch=4, max_frame=12, width=6, depth=1, num_head=1)
    vector = Decoder(encoder, 5, width=512, depth=1, num_head=1).mask_token
    assert abs(vector.std().item() - 0.02) < 0.004


def test_predictions_are_those_of_a_slow_reference():
    torch.manual_seed(0)
    encoder = Model(layout="kinect-v1", patch=4, max_frame=12, width=6, depth=1, num_head=1)
    decoder = Decoder(encoder, 5, width=8, depth=2, num_head=2).double()
    torch.nn.init.normal_(decoder.mask_token)
    tokens = torch.randn(2, 3, 6, dtype=torch.float64)
    # Of a shorter clip of two times. The second body has no token at its third place, and is absent at first.
    keep = torch.tensor([[21, 0, 39], [30, 22, -1]])
    counted = torch.ones(2, 40, dtype=torch.bool)
    counted[1, :20] = False
    found = decoder(tokens, keep, counted)
    assert found.shape == (2, 40, 5)
    # Like an encoder, whose embedding here is the identity on what stands at a token.
    decoder.embed, decoder.feature_dim = torch.nn.Identity(), 8
    for body in range(2):
        shown = {
            index: decoder.project(tokens[body, k])
            for k, index in enumerate(keep[body].tolist())
            if index >= 0
        }
        places = [index for index in range(40) if counted[body, index]]
        values = [(*divmod(index, 20), shown.get(index, decoder.mask_token)) for index in places]
        expected = decoder.out(encode_slowly(decoder, values, 2))
        torch.testing.assert_close(found[body, places], expected)
