"""Packets and frames of a media file, read tolerantly: damaged ones are skipped, a file cut short is reported."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkingface.media.info import check_complete, decoder_threads, logger

if TYPE_CHECKING:
    from av.container import InputContainer

_SEEK_MARGINS = (0.0, 2.0, 10.0)  # seconds further back to try when a seek lands behind its target


class Demuxer:
    """Reads one open container from the front (or from a key frame) and notes how far each stream really reaches.

    Attributes:
        decoding: Indices of the streams whose packets are decoded; may shrink while frames are taken.
    """

    def __init__(self, container: InputContainer, path: Path, *streams: Any) -> None:
        """Read `container`, the opened `path`, decoding `streams`."""
        self.container = container
        self.path = path
        self.decoding = {stream.index for stream in streams}
        self._spans: dict[int, tuple[float, float]] = {}
        self._packets: Iterator[Any] | None = None
        self._floor: dict[int, float] = {}
        self._decoders = {stream.index: decoder for stream in streams if (decoder := _decoder_of_alpha(stream))}

    def _demux(self) -> Iterator[Any]:
        return iter(self.container.demux(*(s for s in self.container.streams if s.type in ("video", "audio"))))

    def packets(self) -> Iterator[Any]:
        """Yield packets in file order; at the end of the file one empty packet per stream flushes its decoder."""
        import av

        packets = self._demux() if self._packets is None else self._packets
        self._packets = None
        try:
            for packet in packets:
                self._note(packet)
                yield packet
        except av.error.FFmpegError as error:
            # What was read so far is used; `check_complete` decides whether it is enough.
            logger.debug("%s: reading stops early: %s", self.path, error)

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield (stream index, decoded frame) of the streams in `decoding`."""
        flushed = set()
        for packet in self.packets():
            index = packet.stream.index
            if not packet.size:
                flushed.add(index)
            if index in self.decoding:
                yield from ((index, frame) for frame in self._decode(index, packet))
        # A file that ends early sends no empty packets: frames still held by the decoder are asked for here.
        for index in self.decoding - flushed:
            yield from ((index, frame) for frame in self._decode(index, None))

    def _decode(self, index: int, packet: Any | None) -> list[Any]:
        import av

        try:
            decoder = self._decoders.get(index) or self.container.streams[index].codec_context
            frames = decoder.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            logger.debug("%s: a damaged packet was skipped: %s", self.path, error)
            return []
        floor = self._floor.get(index)
        if floor is None:
            return frames
        return [f for f in frames if f.pts is not None and float(f.pts * f.time_base) >= floor - 1e-9]

    def seek(self, stream: Any, target: float) -> bool:
        """Continue from the last key frame of `stream` shown at or before `target` seconds (its own time stamps).

        Returns:
            False when the file offers no trustworthy key frame there; then it must be opened anew and read from the
            front.
        """
        import av

        for margin in _SEEK_MARGINS:
            try:
                self.container.seek(int((target - margin) / stream.time_base), stream=stream, backward=True)
                packets = self._demux()
                # Where a seek has landed is known only by the first packet of the stream; it is kept and handed out
                # later.
                head: list[Any] = []
                for packet in packets:
                    head.append(packet)
                    if packet.stream.index == stream.index:
                        break
            except av.error.FFmpegError:
                return False
            if not head or head[-1].stream.index != stream.index or head[-1].pts is None:
                return False
            shown = float(head[-1].pts * head[-1].time_base)
            if head[-1].is_keyframe and shown <= target + 1e-9:
                self._packets = chain(head, packets)
                # Leading frames of an open group refer to what was skipped: they would come out damaged.
                self._floor[stream.index] = shown
                return True
        return False

    def _note(self, packet: Any) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        # Empty packets flush, discarded ones are cut off by an edit list: neither is shown.
        if stamp is None or not packet.size or packet.is_discard:
            return
        start = float(stamp * packet.time_base)
        end = start + float((packet.duration or 0) * packet.time_base)
        known = self._spans.get(packet.stream.index, (start, end))
        self._spans[packet.stream.index] = (min(known[0], start), max(known[1], end))

    def span(self, stream: Any) -> float:
        """Seconds between the first and the last instant of `stream` among the packets read so far."""
        start, end = self._spans.get(stream.index, (0.0, 0.0))
        return end - start

    def check_complete(self, stream: Any) -> None:
        """Raise `MediaError` when the file ended long before the length that its header declares."""
        if stream.duration and stream.time_base:
            check_complete(self.container, self.path, float(stream.duration * stream.time_base), self.span(stream))
        elif self.container.duration and self._spans:
            # Matroska declares only the length of the longest stream.
            start = min(span[0] for span in self._spans.values())
            end = max(span[1] for span in self._spans.values())
            check_complete(self.container, self.path, self.container.duration / 1e6, end - min(start, 0.0))


def _decoder_of_alpha(stream: Any) -> Any | None:
    """A decoder that keeps the transparency of a VP8 or VP9 film; FFmpeg's own drop it. None where not needed."""
    import av

    if stream.metadata.get("alpha_mode") != "1" and stream.metadata.get("ALPHA_MODE") != "1":
        return None
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if name not in av.codec.codecs_available:
        return None
    decoder = av.CodecContext.create(name, "r")
    decoder.thread_count = decoder_threads()
    return decoder


def first_frame(container: InputContainer, path: Path, stream: Any) -> Any | None:
    """Decode up to the first displayed frame of `stream`, or None when there is none."""
    return next((frame for _, frame in Demuxer(container, path, stream).frames()), None)
