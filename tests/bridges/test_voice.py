from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.content import PICTURE
from bridges.matrix.voice import AUDIO, LOUDEST, MAX_WAVE, VOICE, VOICE_MARK, WAVE_FORM, wave_form
from linearized.mimi.content import MimiContent
from tests.bridges.test_content import convert
from tests.bridges.test_kinds import MXC, part
from tests.bridges.test_rendering import SALT, sent

UPLOADS = {"https://a.example/x": MXC}
WAVE = [0, 100, 1024, 3]


def spoken(**more: Any) -> MimiContent:
    content = {"msgtype": "m.audio", "body": "voice.ogg", "url": MXC, VOICE_MARK: {}, **more}
    return convert({"type": "m.room.message", "content": content}, part=part("audio/ogg"))


def test_a_voice_message_stays_one_with_its_length_and_wave_form() -> None:
    mimi = spoken(info={"duration": 900}, **{AUDIO: {"duration": 900, "waveform": WAVE}})
    assert (mimi.extensions[VOICE], mimi.extensions[WAVE_FORM]) == (True, tuple(WAVE))
    back = sent(MimiContent.decode(mimi.encode()), uploads=UPLOADS)
    assert (back["msgtype"], back[VOICE_MARK], back["info"]["duration"]) == ("m.audio", {}, 900)
    assert back[AUDIO] == {"duration": 900, "waveform": WAVE}


def test_a_voice_whose_length_only_the_extensible_event_says_has_it() -> None:
    mimi = spoken(**{AUDIO: {"duration": 700}})
    assert mimi.extensions[PICTURE] == {"duration": 700}
    assert WAVE_FORM not in mimi.extensions
    assert sent(mimi, uploads=UPLOADS)[AUDIO] == {"duration": 700}


def test_a_voice_of_which_nothing_else_is_known_is_one() -> None:
    back = sent(spoken(), uploads=UPLOADS)
    assert back[VOICE_MARK] == {}
    assert AUDIO not in back


@pytest.mark.parametrize("mark", [None, "yes", []])
def test_music_is_no_voice_and_has_no_wave_form(mark: object) -> None:
    mimi = spoken(**{VOICE_MARK: mark, AUDIO: {"waveform": WAVE}})
    assert not {VOICE, WAVE_FORM} & set(mimi.extensions)
    back = sent(mimi, uploads=UPLOADS)
    assert not {VOICE_MARK, AUDIO} & set(back)
    # Nor does a wave form without the mark make one.
    forged = MimiContent(salt=SALT, part=part("audio/ogg"), extensions={WAVE_FORM: (1, 2)})
    assert not {VOICE_MARK, AUDIO} & set(sent(forged, uploads=UPLOADS))


@pytest.mark.parametrize("values", [None, 7, "0123", b"0123", [], [1, "2"], [1, -1], [True], [[1]], {"0": 1}])
def test_what_is_no_wave_form_is_left_out(values: object) -> None:
    assert wave_form(values) == ()
    assert WAVE_FORM not in spoken(**{AUDIO: {"waveform": values}}).extensions
    forged = MimiContent(salt=SALT, part=part("audio/ogg"), extensions={VOICE: True, WAVE_FORM: values})
    assert AUDIO not in sent(forged, uploads=UPLOADS)


def test_a_wave_form_is_cut_to_what_clients_show_and_keeps_its_shape() -> None:
    long = [number // 10 for number in range(MAX_WAVE * 10)]
    assert wave_form(long) == tuple(range(MAX_WAVE))
    assert wave_form([5, 10**9, LOUDEST + 1]) == (5, LOUDEST, LOUDEST)
    assert len(wave_form(range(MAX_WAVE + 1))) == MAX_WAVE
    assert wave_form([1] * 100_000) == ()
