"""Voice messages: what makes an audio file one, and its wave form, in Matrix (MSC3245, MSC3246) and among a
MIMI message's extensions. Pure; nothing that either side says of it is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bridges.matrix.measures import is_measure

JsonObject = dict[str, Any]

# The extensions: that it was spoken, and how loud it is over its time.
VOICE: Final = "dev.linearized.voice"
WAVE_FORM: Final = "dev.linearized.waveform"
# What a client puts into an audio message that was spoken into it (MSC3245), and what it knows of the sound.
VOICE_MARK: Final = "org.matrix.msc3245.voice"
AUDIO: Final = "org.matrix.msc1767.audio"
# MSC3246: "There should be no less than 30 elements and no more than 120 elements in the array." Fewer are
# shown just as well; of more, so many are taken at even distances.
MAX_WAVE: Final = 120
# "The values should be integers in the range 0 to 1024."
LOUDEST: Final = 1024
# As many values are looked at: an event of 64 KiB has no more.
_MAX_LOOKED_AT: Final = 64 * 1024


def voice_extensions(content: Mapping[str, Any]) -> dict[int | str, Any]:
    """What the content of an audio message says of a voice, as extensions; none if it is music."""
    if content.get("msgtype") != "m.audio" or not isinstance(content.get(VOICE_MARK), dict):
        return {}
    wave = wave_form(_audio(content).get("waveform"))
    return {VOICE: True, **({WAVE_FORM: wave} if wave else {})}


def duration(content: Mapping[str, Any]) -> int | None:
    """How long a sound is, in milliseconds, by what an extensible event says of it."""
    value = _audio(content).get("duration")
    return value if isinstance(value, int) and is_measure(value) else None


def voice_marks(extensions: Mapping[int | str, Any], length: int | None) -> JsonObject:
    """What the content of an audio message of that ``length`` (milliseconds, if known) has more if it is a
    voice: nothing, if it is none.
    """
    if extensions.get(VOICE) is not True:
        return {}
    wave = wave_form(extensions.get(WAVE_FORM))
    known: JsonObject = {} if length is None else {"duration": length}
    audio = {**known, **({"waveform": list(wave)} if wave else {})}
    return {VOICE_MARK: {}, **({AUDIO: audio} if audio else {})}


def wave_form(values: object) -> tuple[int, ...]:
    """A wave form of at most ``MAX_WAVE`` values from 0 to ``LOUDEST``; empty if this is none."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or len(values) > _MAX_LOOKED_AT:
        return ()
    if not all(is_measure(value) for value in values):
        return ()
    count = min(len(values), MAX_WAVE)
    return tuple(min(values[number * len(values) // count], LOUDEST) for number in range(count))


def _audio(content: Mapping[str, Any]) -> Mapping[str, Any]:
    audio = content.get(AUDIO)
    return audio if isinstance(audio, Mapping) else {}
