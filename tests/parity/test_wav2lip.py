"""Wav2Lip's networks, and the objectives as the model's own steps yield them; also the larger expert of HyperLips."""

from __future__ import annotations

import copy

import pytest
import torch

from talkingface.config.sections import StageConfig
from talkingface.lipsync.expert.embedding import batch_statistics
from talkingface.models.wav2lip.config import Wav2LipConfig
from talkingface.models.wav2lip.model import Wav2Lip
from talkingface.models.wav2lip.networks import QualityDiscriminator, Wav2LipGenerator
from talkingface.networks.sync_expert import SyncExpert, sync_loss
from talkingface.plugin.contract import StepContext

MEL_RANGE = 4  # the stored inputs called `...mel...` are multiplied by it
LOSS = 1e-5  # relative


def inputs(v) -> dict[str, torch.Tensor]:
    """All listed inputs by name."""
    listed = {entry["name"]: torch.from_numpy(v.input(entry["name"])) for entry in v["inputs"]}
    return {name: MEL_RANGE * value if "mel" in name else value for name, value in listed.items()}


def context(kind: str, content: bool) -> StepContext:
    """A step of a stage, in which the expert was `content` once or never."""
    best = {"val/sync": 0.5} if content else {}
    return StepContext(StageConfig(name=kind, kind=kind, max_steps=1), best=best)


def backward(update) -> float:
    """The sum of an update's terms, after the backward pass of the shared loop."""
    total = torch.stack(list(update.losses.values())).sum()
    total.backward()
    return total.item()


# -- generator ---------------------------------------------------------------------------------------------------------


def test_generator_gives_the_published_outputs(vector):
    v = vector("wav2lip", "generator")
    network, given = v.load(Wav2LipGenerator()).eval(), inputs(v)
    raw = []
    network.output_block[1].register_forward_hook(lambda module, args, out: raw.append(out))
    with torch.no_grad():
        v.check("image_4d", network(given["gen_mel"], given["gen_face"]))
        v.check("output_block_pre_sigmoid", raw[0])
        v.check("image_5d", network(given["gen_mel5"], given["gen_face5"]))
        v.check("audio_encoder", network.audio_encoder(given["gen_mel"]))
        features = given["gen_face"]
        for block in network.face_encoder_blocks:
            features = block(features)
        v.check("face_encoder_last", features)


@pytest.fixture(scope="module")
def filled(vector):
    """The model with its three published networks, filled from one salt, and the state of its generator.

    `gan_sync` is 0.03 as published; `sync` is the same here, because the stored total of the plain objective has 0.03.
    """
    v = vector("wav2lip", "generator")
    model = Wav2Lip(Wav2LipConfig(loss={"sync": 0.03})).eval()
    for name, network in (("expert", model.sync_expert), ("disc_qual", model.discriminator)):
        source = vector("wav2lip", name)
        source.salt = v.salt
        source.load(network).requires_grad_(name == "disc_qual")
    return model, copy.deepcopy(v.load(model.generator).state_dict())


@pytest.fixture
def stage(filled, vector):
    """The vector, the model with a fresh generator that draws from the stored inputs, and the rest of a batch."""
    v, (model, fresh) = vector("wav2lip", "generator"), filled
    given = inputs(v)
    model.generator.load_state_dict(fresh)
    model.eval().zero_grad()
    model.draw = lambda batch: (model.generator(given["gen_mel5"], given["gen_face5"]), given["gen_gt5"])
    return v, model, {"mel": given["gen_window_mel"][:, None]}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_generator_step_has_the_published_terms(stage, mode):
    v, model, batch = stage
    stored = v["losses"][mode]
    model.generator.train(mode == "train")
    (update,) = model.generator_step(batch, context("generator", content=True))
    assert update.network == "generator"
    assert update.losses["l1"].item() == pytest.approx(0.97 * stored["l1"], rel=LOSS)
    assert update.losses["sync"].item() == pytest.approx(0.03 * stored["sync"], rel=LOSS)
    assert backward(update) == pytest.approx(stored["total"], rel=LOSS)
    v.check_norms(model.generator, v["grad_norms"][mode], tolerance=1e-3 if mode == "eval" else 1e-2)
    assert all(parameter.grad is None for parameter in model.sync_expert.parameters())


def test_before_the_switch_the_generator_step_is_l1_alone(stage):
    v, model, batch = stage
    (update,) = model.generator_step(batch, context("generator", content=False))
    assert {name: value.item() for name, value in update.losses.items()} == {
        "l1": pytest.approx(v["losses"]["eval"]["l1"], rel=LOSS)
    }


def test_gan_step_has_the_published_terms(stage):
    v, model, batch = stage
    stored = v["losses"]["hq_eval"]
    update = next(model.gan_step(batch, context("gan", content=True)))
    assert update.network == "generator"
    assert update.losses["l1"].item() == pytest.approx(0.90 * stored["l1"], rel=LOSS)
    assert update.losses["sync"].item() == pytest.approx(0.03 * stored["sync"], rel=LOSS)
    assert update.losses["perceptual"].item() == pytest.approx(0.07 * stored["perceptual"], rel=LOSS)
    assert backward(update) == pytest.approx(stored["total"], rel=LOSS)
    v.check_norms(model.generator, v["grad_norms"]["hq_eval"], tolerance=1e-3)
    assert all(parameter.grad is None for parameter in model.discriminator.parameters())


# -- discriminator -----------------------------------------------------------------------------------------------------


def test_discriminator_gives_the_published_outputs(vector):
    v = vector("wav2lip", "disc_qual")
    network, given = v.load(QualityDiscriminator()).eval(), inputs(v)
    with torch.no_grad():
        opinion = network(given["disc_face"])
        v.check("pred", opinion)
        v.check("features", network.features(given["disc_face"]))
    assert sync_loss(opinion, 1.0).item() == pytest.approx(v["losses"]["perceptual_forward"], rel=LOSS)


def test_the_discriminators_update_is_both_published_backward_passes(filled, vector):
    v, (model, _) = vector("wav2lip", "disc_qual"), filled
    model.zero_grad()
    given = inputs(v)
    drawn, target = given["disc_face"].requires_grad_(), given["gen_gt5"]
    model.draw = lambda batch: (drawn, target)
    _, update = model.gan_step({}, context("gan", content=False))
    assert update.network == "discriminator"
    assert update.losses["real"].item() == pytest.approx(v["losses"]["disc_real"], rel=LOSS)
    assert update.losses["fake"].item() == pytest.approx(v["losses"]["disc_fake"], rel=LOSS)
    backward(update)
    v.check_norms(model.discriminator, v["grad_norms"]["real_plus_fake"], tolerance=1e-3)


# -- experts -----------------------------------------------------------------------------------------------------------


def cosines(network, mel, faces) -> torch.Tensor:
    sounds, mouths = network(mel, faces)
    return (sounds * mouths).sum(dim=1)


def test_expert_gives_the_published_outputs(vector):
    v = vector("wav2lip", "expert")
    network, given = v.load(SyncExpert()).eval(), inputs(v)
    mel, faces = given["expert_mel"], given["expert_face"]
    with torch.no_grad():
        v.check("audio_embedding", network.embed_audio(mel))
        v.check("face_embedding", network.embed_faces(faces))
        v.check("face_encoder_raw", network.face_encoder(faces))
        v.check("audio_encoder_raw", network.audio_encoder(mel))
        v.check("face_encoder_block_4", network.face_encoder[:5](faces))
        v.check("cosine", cosines(network, mel, faces))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_expert_trains_like_the_published_one(vector, mode):
    v = vector("wav2lip", "expert")
    network, given = v.load(SyncExpert()).train(mode == "train"), inputs(v)
    labels = torch.tensor(v["losses"]["labels"], dtype=torch.float32)
    loss = sync_loss(cosines(network, given["expert_mel"], given["expert_face"]), labels)
    assert loss.item() == pytest.approx(v["losses"][f"bce_of_cosine_{mode}"], rel=LOSS)
    loss.backward()
    v.check_norms(network, v["grad_norms"][mode], tolerance=1e-3 if mode == "eval" else 1e-2)


def test_batch_statistics_are_those_of_the_published_train_mode(vector):
    v = vector("wav2lip", "expert")
    network, given = v.load(SyncExpert()).eval(), inputs(v)
    labels = torch.tensor(v["losses"]["labels"], dtype=torch.float32)
    with torch.no_grad(), batch_statistics(network):
        loss = sync_loss(cosines(network, given["expert_mel"], given["expert_face"]), labels)
    assert loss.item() == pytest.approx(v["losses"]["bce_of_cosine_train"], rel=LOSS)


def test_the_window_of_a_face_is_the_experts_input(vector):
    given = inputs(vector("wav2lip", "generator"))
    window = SyncExpert().window(given["gen_gt5"].flip(1))  # ours are RGB
    published = torch.cat([given["gen_gt5"][:, :, k, 48:] for k in range(5)], dim=1)
    torch.testing.assert_close(window, published)


def test_hyperlips_expert(vector):
    v = vector("hyperlips", "sync_expert")
    network = v.load(SyncExpert((64, 128))).eval()
    mel, faces = v.inputs()
    with torch.no_grad():
        v.check("audio_embedding", network.embed_audio(mel))
        v.check("face_embedding", network.embed_faces(faces))
        cosine = cosines(network, mel, faces)
    stored = v["losses"]
    assert cosine.tolist() == pytest.approx(stored["cosine"], rel=LOSS)
    assert sync_loss(cosine, 1.0).item() == pytest.approx(stored["bce_positive"], rel=LOSS)
    assert sync_loss(cosine, 0.0).item() == pytest.approx(stored["bce_negative"], rel=LOSS)
    loss = sync_loss(cosines(network.train(), mel, faces), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(stored["train_mode_bce_labels_1_0"], rel=1e-3)
    loss.backward()
    v.check_norms(network, v["grad_norms"])
