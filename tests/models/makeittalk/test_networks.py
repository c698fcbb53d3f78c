"""Promises of MakeItTalk's networks beside the published numbers: small sizes, masks, windows, shortcuts."""

from __future__ import annotations

import pytest
import torch

from talkingface.models.makeittalk.networks import discriminators
from talkingface.models.makeittalk.networks.attention import RowEncoder
from talkingface.models.makeittalk.networks.autovc import AutoVC
from talkingface.models.makeittalk.networks.content import ContentBranch
from talkingface.models.makeittalk.networks.discriminators import (
    FrameDiscriminator,
    TemporalDiscriminator,
    window_rows,
)
from talkingface.models.makeittalk.networks.pieces import windows_of
from talkingface.models.makeittalk.networks.speaker import SpeakerBranch
from talkingface.models.makeittalk.networks.translation import TranslationUNet


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_sizes_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        assert parameters(AutoVC()) / 1e6 == pytest.approx(14.32, abs=0.01)
        assert parameters(ContentBranch()) / 1e6 == pytest.approx(1.966, abs=0.001)
        assert parameters(SpeakerBranch()) / 1e6 == pytest.approx(3.00 - 0.61, abs=0.01)
        assert parameters(TranslationUNet()) / 1e6 == pytest.approx(69.86, abs=0.01)


# -- voice conversion --------------------------------------------------------------------------------------------------


def test_autovc_of_a_small_profile_keeps_the_length():
    network = AutoVC(neck=4, freq=8, hidden=32, depth=1)
    mel, speaker = torch.rand(2, 24, 80), torch.randn(2, 256)
    converted = network(mel, speaker, speaker, torch.zeros(2, 24, 257))
    assert converted.mel.shape == converted.refined.shape == (2, 24, 80) and converted.codes.shape == (2, 3, 8)


def test_autovc_refuses_what_it_cannot_group():
    with pytest.raises(ValueError, match="hidden must be a multiple of 32, got 40"):
        AutoVC(hidden=40)
    with pytest.raises(ValueError, match="number of rows must be a multiple of 8, got 20"):
        AutoVC(neck=4, freq=8, hidden=32).encode(torch.rand(1, 20, 80), torch.randn(1, 256))


# -- content -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow():
    network = ContentBranch(hidden=24, prior=20, depth=2)
    network(torch.randn(64, 18, 80), torch.randn(64, 204))  # the norms have seen something
    return network.eval()


def test_one_pass_over_the_rows_equals_the_windows_one_by_one(narrow):
    rows, face = torch.randn(60, 80), torch.randn(1, 204)
    with torch.no_grad():
        windows = windows_of(rows)
        assert windows.shape == (43, 18, 80) and torch.equal(windows[5], rows[5:23])
        torch.testing.assert_close(narrow.follow(rows, face), narrow(windows, face), rtol=0, atol=1e-6)


def test_one_pass_is_refused_where_it_would_give_other_numbers(narrow):
    with pytest.raises(ValueError, match="for eval mode"):
        narrow.train().follow(torch.randn(60, 80), torch.randn(1, 204))
    with pytest.raises(ValueError, match="17 rows of sound are too few for a window of 18"):
        narrow.eval().follow(torch.randn(17, 80), torch.randn(1, 204))


def test_a_network_that_starts_at_rest_leaves_the_face_alone_and_learns(narrow):
    narrow.rest_at_start()
    displacement = narrow.train()(torch.randn(8, 18, 80), torch.randn(1, 204))
    assert not displacement.any()
    (displacement - 1).abs().mean().backward()
    assert narrow.fc[-1].weight.grad.any()


# -- speaker -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def speaker():
    return SpeakerBranch(hidden=16, depth=1, code=8, width=4, layers=1).eval()


def test_rows_that_are_not_there_change_nothing(speaker):
    windows, vector = torch.randn(2, 12, 18, 80), torch.randn(2, 256)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 7:] = False
    with torch.no_grad():
        masked = speaker(windows, vector, mask=mask).displacement
        alone = speaker(windows[1:, :7], vector[1:]).displacement
        unmasked = speaker(windows, vector).displacement
    torch.testing.assert_close(masked[1:, :7], alone)
    torch.testing.assert_close(masked[0], unmasked[0])
    assert (masked[1, :7] - unmasked[1, :7]).abs().max() > 1e-4


def test_the_same_words_of_another_speaker_move_otherwise(speaker):
    windows = torch.randn(1, 6, 18, 80).expand(2, -1, -1, -1)
    motion = speaker(windows, torch.randn(2, 256)).displacement
    assert (motion[0] - motion[1]).abs().max() > 1e-3


def test_noise_comes_only_when_asked_for(speaker):
    windows, vector = torch.randn(1, 6, 18, 80), torch.randn(1, 256)
    with torch.no_grad():
        first, second = speaker(windows, vector), speaker(windows, vector)
        noisy = speaker(windows, vector, code_noise=0.5)
        hinted = speaker(windows, vector, z=torch.ones(1, 6, 8))
    assert torch.equal(first.displacement, second.displacement)
    assert not torch.equal(first.code, noisy.code)
    assert not torch.equal(first.displacement, hinted.displacement)


def test_a_sequence_is_no_longer_than_the_table_of_positions():
    encoder = RowEncoder(6, width=4, heads=1, depth=1)
    assert encoder(torch.randn(1, 512, 6)).shape == (1, 512, 4)
    with pytest.raises(ValueError, match="at most 512 rows, got 513"):
        encoder(torch.randn(1, 513, 6))


# -- discriminators ----------------------------------------------------------------------------------------------------


def test_windows_by_hand():
    rows = window_rows(80, 64)
    assert rows.shape == (16, 64) and rows[0].tolist() == list(range(64)) and rows[-1, 0] == 15
    assert window_rows(64, 64).tolist() == [list(range(63))]
    assert window_rows(40, 64).tolist() == [list(range(39))]
    apart = window_rows(100, 64, stride=16, inside_step=16)
    assert apart.tolist() == [[0, 16, 32, 48], [16, 32, 48, 64], [32, 48, 64, 80]]
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        window_rows(1, 64)


def test_only_windows_that_are_wholly_there_are_judged():
    network = TemporalDiscriminator(code=4, width=4, layers=1, window=8, stride=4)
    mask = torch.ones(2, 24, dtype=torch.bool)
    mask[1, 14:] = False
    scores, judged = network(torch.randn(2, 24, 204), torch.randn(2, 4)), network.judged(mask)
    assert scores.shape == (2, 4, 1) and judged.tolist() == [[True] * 4, [True, True, False, False]]


def test_rows_of_windows_are_found_once_for_all_steps(monkeypatch):
    made = []
    discriminators._rows_on.cache_clear()
    monkeypatch.setattr(discriminators, "window_rows", lambda *sizes: made.append(sizes) or window_rows(*sizes))
    network = TemporalDiscriminator(code=4, width=4, layers=1, window=8, stride=4)
    for length in (24, 24, 30, 24):
        network(torch.randn(2, length, 204), torch.randn(2, 4))
        assert network.judged(torch.ones(2, length, dtype=torch.bool)).all()
    assert [sizes[0] for sizes in made] == [24, 30]


def test_a_window_of_one_row_has_no_motion():
    with pytest.raises(ValueError, match="inside_step 8 leaves one row of a window of 8"):
        TemporalDiscriminator(window=8, inside_step=8)


def test_the_temporal_discriminator_hears_who_speaks_and_sees_the_order():
    network = TemporalDiscriminator(code=4, width=4, layers=1, window=8).eval()
    faces, code = torch.randn(1, 9, 204), torch.randn(1, 4)
    with torch.no_grad():
        score = network(faces, code)
        assert not torch.equal(score, network(faces, -code))
        assert not torch.equal(score, network(faces[:, [7, *range(1, 7), 0, 8]], code))


def test_the_frame_discriminator_takes_any_number_of_axes():
    assert FrameDiscriminator(8)(torch.randn(3, 5, 204)).shape == (3, 5, 1)


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_downs", "sides"), [(2, (12, 20)), (3, (96, 96)), (5, (96, 32)), (7, (128, 128))])
def test_the_translation_network_keeps_every_size_that_its_halvings_divide(num_downs, sides):
    network = TranslationUNet(num_downs=num_downs, width=4)
    assert network(torch.rand(2, 6, *sides)).shape == (2, 3, *sides)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 8, got 96 x 100"):
        TranslationUNet(num_downs=3, width=4)(torch.rand(1, 6, 96, 100))
    with pytest.raises(ValueError, match="num_downs must be at least 2, got 1"):
        TranslationUNet(num_downs=1)


def test_the_layout_of_inference_changes_no_number():
    network = TranslationUNet(num_downs=2, width=4).eval()
    given = torch.rand(1, 6, 16, 16)
    trained_way = network(given).detach()
    with torch.inference_mode():
        torch.testing.assert_close(network(given), trained_way)
