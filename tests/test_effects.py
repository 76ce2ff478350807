"""Equalisers, rooms and noise: that they do what they say, with numbers."""

import numpy as np
import pytest

from uss_jax import effects
from uss_jax.effects import DIRECT_DB, NODES_HZ, NOISE_DB, RT60_S, Effects

RATE_HZ = 32_000
SAMPLES = 64_000


def generator(seed=0):
    return np.random.default_rng(seed)


def white(count=SAMPLES, seed=0):
    return generator(seed).standard_normal(count, np.float32)


def impulse(at=0, count=SAMPLES):
    samples = np.zeros(count, np.float32)
    samples[at] = 1
    return samples


def decibels(energy):
    return 10 * np.log10(energy)


def tone(hertz):
    """With soft ends, so that it is at one frequency."""
    return (np.hanning(SAMPLES) * np.sin(2 * np.pi * hertz / RATE_HZ * np.arange(SAMPLES))).astype(np.float32)


# Equaliser


@pytest.mark.parametrize("range_db", [3.0, 12.0])
def test_an_equaliser_keeps_within_its_range_and_uses_it(range_db):
    at_middle = impulse(SAMPLES // 2)  # what rings before it and after is kept
    curves = [Effects(range_db).on_source(at_middle, generator(seed)) for seed in range(20)]
    gains_db = decibels(np.abs(np.fft.rfft(curves, axis=1)) ** 2)
    assert np.abs(gains_db).max() < range_db + 0.05
    assert gains_db.max() > 0.8 * range_db
    assert gains_db.min() < -0.8 * range_db
    assert np.ptp(gains_db, axis=1).min() > 0.5 * range_db  # none is a gain alone


@pytest.mark.parametrize("node", range(9))
def test_gains_are_those_at_the_nodes(node):
    gains_db = generator(3).uniform(-12, 12, len(NODES_HZ))
    hertz = min(NODES_HZ[node], 15_990.0)
    before, after = tone(hertz), effects.filtered(tone(hertz), gains_db)
    assert decibels(np.sum(after**2) / np.sum(before**2)) == pytest.approx(gains_db[node], abs=0.1)


def test_an_equaliser_delays_nothing():
    heard, at = Effects(12.0).on_source(impulse(SAMPLES // 2), generator()), SAMPLES // 2
    assert np.argmax(np.abs(heard)) == at
    np.testing.assert_allclose(heard[at - 5_000 : at], heard[at + 5_000 : at : -1], atol=1e-6)


def test_a_gain_curve_is_smooth_and_never_beyond_its_neighbours():
    gains_db = np.array([6.0, -6.0, 6.0, 6.0, 0.0, -3.0, 3.0, -6.0, 6.0])
    curve = 20 * np.log10(effects.gain_curve(gains_db, SAMPLES))
    hertz = np.fft.rfftfreq(SAMPLES, 1 / RATE_HZ)
    np.testing.assert_allclose(curve[hertz <= 60], 6.0, atol=1e-5)
    for low, high in zip(range(8), range(1, 9), strict=True):
        between = curve[(hertz >= NODES_HZ[low]) & (hertz <= NODES_HZ[high])]
        assert between.min() >= min(gains_db[low], gains_db[high]) - 1e-5
        assert between.max() <= max(gains_db[low], gains_db[high]) + 1e-5
        assert np.all(np.diff(between) * np.sign(gains_db[high] - gains_db[low]) >= -1e-5)
    above = hertz > 500
    slopes = np.diff(curve[above]) / np.diff(np.log2(hertz[above]))  # dB an octave
    assert np.abs(np.diff(slopes)).max() < 0.5  # straight lines would jump by 13


def test_level_gains_change_nothing():
    samples = white()
    np.testing.assert_allclose(effects.filtered(samples, np.zeros(len(NODES_HZ))), samples, atol=2e-6)
    np.testing.assert_allclose(effects.filtered(samples, response=impulse(count=1)), samples, atol=2e-6)


@pytest.mark.parametrize("length", [SAMPLES, 31_999, 1_000, 2])
def test_what_is_off_is_the_same_array_and_what_is_on_has_the_same_length(length):
    samples = white(length)
    assert Effects().on_source(samples, generator()) is samples
    assert Effects().on_mixture(samples, generator()) is samples
    on = Effects(6.0, 1.0, 1.0)
    for changed in (on.on_source(samples, generator()), on.on_mixture(samples, generator())):
        assert changed.shape == samples.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()


@pytest.mark.parametrize("at", [0, SAMPLES - 1])
def test_nothing_wraps_around(at):
    response = effects.room_response(generator(1), RT60_S[1], 0.0)
    gains_db = np.array([12.0, -12.0] * 4 + [12.0])
    for heard in (effects.filtered(impulse(at), gains_db), effects.filtered(impulse(at), gains_db, response)):
        far = heard[-10_000:] if at == 0 else heard[:10_000]
        assert np.abs(heard).max() > 0.5
        assert np.abs(far).max() < 1e-3 * np.abs(heard).max()


# Rooms


@pytest.mark.parametrize("rt60_s", [0.1, 0.3, 0.8])
def test_a_room_fades_by_60_db_in_its_time(rt60_s):
    responses = np.stack([effects.room_response(generator(seed), rt60_s, 5.0) for seed in range(40)])
    assert responses.shape == (40, round(rt60_s * RATE_HZ))

    def level(around):
        middle = int(around * rt60_s * RATE_HZ)
        return decibels(np.mean(responses[:, middle - 60 : middle + 60] ** 2))

    # Low sounds are what is left then.
    assert level(0.4) - level(0.9) == pytest.approx(30.0, abs=1.5)


def test_high_sounds_fade_in_half_the_time():
    responses = np.stack([effects.room_response(generator(seed), 0.4, 5.0) for seed in range(40)])

    def level(samples, low_hz, high_hz):
        power = np.abs(np.fft.rfft(samples * np.hanning(samples.shape[1]), axis=1)) ** 2
        hertz = np.fft.rfftfreq(samples.shape[1], 1 / RATE_HZ)
        return decibels(np.mean(power[:, (hertz >= low_hz) & (hertz <= high_hz)]))

    early, late = responses[:, 1_000:2_000], responses[:, 3_560:4_560]  # 0.2 reverberation times apart
    assert level(early, 50, 500) - level(late, 50, 500) == pytest.approx(12.0, abs=2.0)
    assert level(early, 6_000, 14_000) - level(late, 6_000, 14_000) == pytest.approx(24.0, abs=4.0)


@pytest.mark.parametrize("direct_db", [0.0, 7.0, 15.0])
def test_the_direct_sound_comes_at_once_and_has_its_share_of_the_energy(direct_db):
    response = effects.room_response(generator(2), 0.5, direct_db)
    assert response[0] == 1.0
    assert decibels(1 / np.sum(response[1:] ** 2)) == pytest.approx(direct_db, abs=0.01)
    heard = effects.filtered(impulse(), response=response)
    np.testing.assert_allclose(heard[: len(response)], response, atol=1e-6)
    assert np.abs(heard[len(response) :]).max() < 1e-6


def test_a_convolution_is_that_of_the_definition():
    samples, response = white(2_000), effects.room_response(generator(4), 0.1, 3.0)
    expected = np.convolve(samples.astype(np.float64), response)[:2_000]
    np.testing.assert_allclose(effects.filtered(samples, response=response), expected, atol=1e-5)


def test_rooms_are_drawn_from_their_ranges_for_their_share_of_sources():
    heard = [Effects(reverb_share=0.5).on_source(impulse(), generator(seed)) for seed in range(400)]
    rooms = [samples for samples in heard if np.count_nonzero(samples) > 1]
    assert 0.42 < len(rooms) / 400 < 0.58
    seconds = np.array([(np.flatnonzero(np.abs(samples) > 1e-6)[-1] + 1) / RATE_HZ for samples in rooms])
    assert RT60_S[0] * 0.99 < seconds.min() < 0.12
    assert 0.7 < seconds.max() < RT60_S[1] * 1.01
    assert np.median(seconds) == pytest.approx(np.sqrt(0.1 * 0.8), rel=0.2)  # as likely below as above, by log
    direct_db = [decibels(1 / np.sum(samples[1:] ** 2)) for samples in rooms]
    assert DIRECT_DB[0] - 0.01 < min(direct_db) < 1
    assert 14 < max(direct_db) < DIRECT_DB[1] + 0.01


# Noise


@pytest.mark.parametrize("slope_db", [0.0, -3.0, -6.0])
def test_noise_has_its_slope_and_unit_energy(slope_db):
    noises = np.stack([effects.coloured_noise(generator(seed), SAMPLES, slope_db) for seed in range(4)])
    np.testing.assert_allclose(np.mean(noises**2, axis=1), 1.0, rtol=1e-4)
    power = np.mean(np.abs(np.fft.rfft(noises, axis=1)) ** 2, axis=0)
    octaves = [np.mean(power[low : 2 * low]) for low in (250, 500, 1000, 2000, 4000, 8000)]  # in bins of 0.5 Hz
    np.testing.assert_allclose(np.diff(decibels(np.array(octaves))), slope_db, atol=1.0)
    assert np.abs(noises.mean(axis=1)).max() < 1e-5


def test_noise_has_a_level_from_its_range_for_its_share_of_mixtures():
    mixture = 0.1 * white()
    heard = [Effects(noise_share=0.5).on_mixture(mixture, generator(seed)) for seed in range(400)]
    noises = [samples - mixture for samples in heard if samples is not mixture]
    assert 0.42 < len(noises) / 400 < 0.58
    levels = [decibels(np.mean(noise**2) / np.mean(mixture**2)) for noise in noises]
    assert NOISE_DB[0] - 0.05 < min(levels) < -38
    assert -12 < max(levels) < NOISE_DB[1] + 0.05
    assert np.mean(levels) == pytest.approx(-25, abs=2.5)


def test_silence_stays_silent():
    everything, silence = Effects(12.0, 1.0, 1.0), np.zeros(SAMPLES, np.float32)
    assert not everything.on_source(silence, generator()).any()
    assert not everything.on_mixture(silence, generator()).any()


@pytest.mark.parametrize(
    "fields", [{"equaliser_range_db": -1.0}, {"reverb_share": 1.1}, {"reverb_share": -0.1}, {"noise_share": 2.0}]
)
def test_impossible_settings_are_refused_by_name(fields):
    with pytest.raises(ValueError, match=rf"data\.{next(iter(fields))} .*expected"):
        Effects(**fields)
