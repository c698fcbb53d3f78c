"""BiSeNet gives the published outputs, by its first head alone and by all three."""

from __future__ import annotations

import torch

from talkingface.networks.bisenet import BiSeNet


def test_parsing_gives_the_published_outputs(vector):
    v = vector("faces", "bisenet")
    network = v.load(BiSeNet(v["constructor"]["n_classes"])).eval()
    (image,) = v.inputs()
    with torch.no_grad():
        v.check("logits", network(image))
        for name, scores in zip(("logits", "logits16", "logits32"), network.all_heads(image), strict=True):
            v.check(name, scores)
        for name, features in zip(("feat8", "feat_cp8", "feat_cp16"), network.cp(image), strict=True):
            v.check(name, features)
