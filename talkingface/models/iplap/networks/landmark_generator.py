"""IPLAP's first stage: a transformer that predicts lip and jaw landmarks from audio, pose and reference landmarks.

Paper: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors", CVPR 2023,
section 3.1. Names and order of the parts equal those of the published checkpoint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from talkingface.networks.blocks import ConvBlock, conv_stack, full_precision, mel_encoder, scaled

JAW_POINTS = 17
LIP_POINTS = 40
CONTENT_POINTS = JAW_POINTS + LIP_POINTS
POSITIONS = 512  # rows of the position tables in the published file; only the first T are read
POSE_TOKEN, AUDIO_TOKEN, REFERENCE_TOKEN = 1, 2, 3


class LandmarkGenerator(nn.Module):
    """Lip and jaw landmarks of a window of `T` frames.

    Every frame of a video can be encoded once with `encode_mel`, `encode_pose` and `encode_reference`; `fuse` then
    takes windows of these tokens. `forward` does the same for windows that share nothing.

    Args:
        T: frames in a window.
        d_model: size of a token, a multiple of `nhead`, even.
        nlayers: transformer layers.
        nhead: attention heads.
        dim_feedforward: hidden size of a transformer layer.
        dropout: dropout of the tokens and inside the transformer.
        width: multiplier of the encoders' inner channels; 1 is the published size.
    """

    def __init__(
        self,
        T: int = 5,
        d_model: int = 512,
        nlayers: int = 4,
        nhead: int = 4,
        dim_feedforward: int = 1024,
        dropout: float = 0.1,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if d_model % 2 or d_model % nhead:
            raise ValueError(f"d_model must be even and a multiple of nhead {nhead}, got {d_model}")
        self.T = T
        self.mel_encoder = mel_encoder(d_model, width, tanh=True)
        self.ref_encoder = point_encoder(d_model, width, second_stride=2, last_repeats=1, last_residual=False)
        self.pose_encoder = point_encoder(d_model, width, second_stride=1, last_repeats=2, last_residual=True)
        self.fusion_transformer = FusionTransformer(d_model, nlayers, nhead, dim_feedforward, dropout)
        self.mouse_keypoint_map = nn.Linear(d_model, 2 * LIP_POINTS)  # Kept: the published key is spelt like this
        self.jaw_keypoint_map = nn.Linear(d_model, 2 * JAW_POINTS)
        self.Norm = nn.LayerNorm(d_model)
        self.apply(_initialise)

    def encode_mel(self, mels: Tensor) -> Tensor:
        """Mel windows (..., 1, 80, 16) -> tokens (..., d_model)."""
        return self.Norm(self.mel_encoder(mels.flatten(0, -4)).flatten(1)).unflatten(0, mels.shape[:-3])

    def encode_pose(self, pose: Tensor) -> Tensor:
        """Pose landmarks (..., 2, 74) -> tokens (..., d_model)."""
        return self.Norm(self.pose_encoder(pose.flatten(0, -3)).flatten(1)).unflatten(0, pose.shape[:-2])

    def encode_reference(self, pose: Tensor, content: Tensor) -> Tensor:
        """Full landmark sets of reference frames, (..., 2, 74) and (..., 2, 57) -> tokens (..., d_model)."""
        points = torch.cat([pose, content], dim=-1)
        return self.Norm(self.ref_encoder(points.flatten(0, -3)).flatten(1)).unflatten(0, points.shape[:-2])

    def fuse(self, mel_tokens: Tensor, pose_tokens: Tensor, reference_tokens: Tensor) -> Tensor:
        """Landmarks of windows of tokens.

        Args:
            mel_tokens: (B, T, d_model).
            pose_tokens: (B, T, d_model).
            reference_tokens: (B, Nl, d_model), or (1, Nl, d_model) for windows of one speaker.

        Returns:
            (B*T, 2, 57) float32, row `b*T + t`, jaw then outer lip then inner lip, relative to the face crop.
        """
        frames = mel_tokens.shape[1]
        references = reference_tokens.expand(mel_tokens.shape[0], -1, -1)
        tokens = self.fusion_transformer(references, mel_tokens, pose_tokens)
        audio, pose = tokens[:, -2 * frames : -frames], tokens[:, -frames:]
        with full_precision(tokens):
            lips = self.mouse_keypoint_map(audio.float())
            jaw = self.jaw_keypoint_map(pose.float())
            points = torch.cat([jaw, lips], dim=-1)
        return points.unflatten(-1, (CONTENT_POINTS, 2)).flatten(0, 1).transpose(1, 2)

    def forward(self, mels: Tensor, pose: Tensor, reference_pose: Tensor, reference_content: Tensor) -> Tensor:
        """Landmarks of B windows.

        Args:
            mels: (B, T, 1, 80, 16), one mel window per frame.
            pose: (B, T, 2, 74), row 0 = x, row 1 = y, relative to the face crop.
            reference_pose: (B, Nl, 2, 74).
            reference_content: (B, Nl, 2, 57).

        Returns:
            (B*T, 2, 57) float32, see `fuse`.
        """
        return self.fuse(
            self.encode_mel(mels), self.encode_pose(pose), self.encode_reference(reference_pose, reference_content)
        )

    @torch.no_grad()
    def set_output_mean(self, content: Tensor) -> None:
        """Start from the mean landmarks (2, 57) of the training data, so that only deviations must be learnt."""
        points = content.t().reshape(-1)  # point-major: x0, y0, x1, y1, ...
        self.jaw_keypoint_map.bias.copy_(points[: 2 * JAW_POINTS])
        self.mouse_keypoint_map.bias.copy_(points[2 * JAW_POINTS :])


class FusionTransformer(nn.Module):
    """Transformer over reference, audio and pose tokens; positions count from the start of the window."""

    def __init__(self, d_model: int, nlayers: int, nhead: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.position_v = PositionTable(d_model)
        self.position_a = PositionTable(d_model)
        self.modality = nn.Embedding(4, d_model, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward, dropout, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, nlayers, enable_nested_tensor=False)

    def forward(self, references: Tensor, audio: Tensor, pose: Tensor) -> Tensor:
        """(B, Nl, d), (B, T, d) and (B, T, d) tokens -> (B, Nl + 2T, d) in that order."""
        modality = self.modality.weight
        tokens = [
            references + modality[REFERENCE_TOKEN],
            audio + self.position_a(audio.shape[1]) + modality[AUDIO_TOKEN],
            pose + self.position_v(pose.shape[1]) + modality[POSE_TOKEN],
        ]
        return self.transformer_encoder(self.dropout(torch.cat(tokens, dim=1)))


class PositionTable(nn.Module):
    """Sine and cosine table of positions, a buffer because the published checkpoint holds it."""

    pe: Tensor

    def __init__(self, d_model: int, positions: int = POSITIONS) -> None:
        super().__init__()
        rate = torch.exp(torch.arange(0, d_model, 2).float() * -(math.log(10000.0) / d_model))
        angle = torch.arange(positions).float()[:, None] * rate
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[None])

    def forward(self, length: int) -> Tensor:
        """First `length` rows, (1, length, d_model)."""
        return self.pe[:, :length]


def point_encoder(
    outputs: int, width: float, second_stride: int, last_repeats: int, last_residual: bool
) -> nn.Sequential:
    """Encoder of landmark sets as sequences of points, (B, 2, K) -> (B, outputs, 1).

    131 points shrink to 66, 33, 17, 9, 5, 3, 1 with `second_stride` 2; 74 points to 74, 37, 19, 10, 5, 3, 1 with 1.
    """
    c = [scaled(channels, width) for channels in (4, 8, 16, 32, 64, 128, 256)]
    rows = [(c[0], 3, 1, 1, 0), (c[1], 3, second_stride, 1, 2), *((channels, 3, 2, 1, 2) for channels in c[2:6])]
    stack = conv_stack(1, 2, [*rows, (c[6], 3, 2, 1, last_repeats), (outputs, 3, 1, 0, 0)])
    stack.append(ConvBlock(1, outputs, outputs, 1, 1, 0, residual=last_residual, tanh=True))
    return stack


def _initialise(module: nn.Module) -> None:
    """Xavier-normal linear weights (attention output and feed-forward layers included), as published."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)
