"use strict";

// Plays any of the tracks together, to the sample. A track is decoded when it is first wanted; all decoded tracks run,
// and gains say which are heard. `encoded(number)` gives a track's file in base 64; `changed()` is told of every change.
class Player {
  static LEAD = 0.05;  // seconds between an order and the sound, so that all tracks are ready for it
  static FADE = 0.008;  // seconds; without it starts and stops click
  static SMOOTH = 0.012;  // time constant of gains

  constructor(count, seconds, rate, encoded, changed) {
    this.seconds = seconds;
    this.rate = rate;
    this.encoded = encoded;
    this.changed = changed;
    this.tracks = Array.from({ length: count }, (_, number) => ({
      number, on: number === 0, solo: false, volume: 0, buffer: null, decoding: null, failed: false, gain: null, voice: null,
    }));
    this.context = null;
    this.playing = false;  // or about to: the button shows it at once
    this.origin = null;  // where in the recording the context's clock stood at a moment; null while nothing sounds
    this.at = 0;
    this.turn = 0;  // counts orders, so that what was awaited for an older one is dropped
  }

  audible(track) {
    return this.tracks.some((other) => other.solo) ? track.solo : track.on;
  }

  position() {
    if (!this.origin) return this.at;
    const passed = Math.max(0, this.context.currentTime - this.origin.time);
    return Math.min(this.seconds, this.origin.at + passed);
  }

  async play() {
    this.playing = true;
    if (this.at >= this.seconds - 0.02) this.at = 0;
    const turn = ++this.turn;
    this.changed();
    this.open();
    await Promise.all([this.context.resume(), ...this.tracks.filter((track) => this.audible(track)).map((track) => this.decode(track))]);
    if (turn !== this.turn) return;
    const rate = this.context.sampleRate;
    this.origin = { time: this.soon(), at: Math.round(this.at * rate) / rate };
    for (const track of this.tracks) this.launch(track);
    this.apply();
  }

  pause() {
    this.at = this.position();
    this.halt();
    this.playing = false;
    this.changed();
  }

  seek(seconds) {
    const again = this.playing;
    this.halt();
    this.at = Math.min(Math.max(0, seconds), this.seconds);
    if (again) this.play();
    this.changed();
  }

  // To be called for every picture: ends at the end.
  tick() {
    if (this.origin && this.position() >= this.seconds) this.pause();
  }

  set(number, values) {
    Object.assign(this.tracks[number], values);
    this.apply();
  }

  // Hears these tracks and no others.
  choose(numbers) {
    for (const track of this.tracks) Object.assign(track, { on: numbers.includes(track.number), solo: false });
    this.apply();
  }

  unsolo() {
    for (const track of this.tracks) track.solo = false;
    this.apply();
  }

  open() {
    if (this.context) return;
    try {
      this.context = new AudioContext({ sampleRate: this.rate });  // so that decoded sound takes no more room than needed
    } catch {
      this.context = new AudioContext();
    }
    for (const track of this.tracks) {
      track.gain = this.context.createGain();
      track.gain.gain.value = 0;
      track.gain.connect(this.context.destination);
    }
  }

  decode(track) {
    track.decoding ??= (async () => {
      try {
        const text = atob(this.encoded(track.number));
        const bytes = new Uint8Array(text.length);
        for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
        track.buffer = await this.context.decodeAudioData(bytes.buffer);
      } catch {
        track.failed = true;
      }
      this.changed();
    })();
    return track.decoding;
  }

  // The next moment that sound can begin at, on the grid of the context's samples.
  soon() {
    const rate = this.context.sampleRate;
    return Math.ceil((this.context.currentTime + Player.LEAD) * rate) / rate;
  }

  // Begins a track where the others are.
  launch(track) {
    if (!track.buffer || track.voice) return;
    const time = Math.max(this.origin.time, this.soon());
    const offset = this.origin.at + (time - this.origin.time);
    if (offset >= track.buffer.duration) return;
    const source = this.context.createBufferSource();
    const fade = this.context.createGain();
    source.buffer = track.buffer;
    source.connect(fade).connect(track.gain);
    fade.gain.setValueAtTime(0, time);
    fade.gain.linearRampToValueAtTime(1, time + Player.FADE);
    source.start(time, offset);
    track.voice = { source, fade };
  }

  halt() {
    this.turn++;
    this.origin = null;
    for (const track of this.tracks) {
      if (!track.voice) continue;
      const now = this.context.currentTime;
      track.voice.fade.gain.cancelScheduledValues(now);
      track.voice.fade.gain.setTargetAtTime(0, now, Player.FADE);
      track.voice.source.stop(now + 8 * Player.FADE);
      track.voice = null;
    }
  }

  // Brings the gains to what is wanted, and tracks that are newly wanted into the music.
  apply() {
    this.changed();
    if (!this.context) return;
    const now = this.context.currentTime;
    for (const track of this.tracks) {
      const wanted = this.audible(track);
      track.gain.gain.setTargetAtTime(wanted ? Player.gain(track.volume) : 0, now, Player.SMOOTH);
      if (wanted && this.playing && !track.voice) {
        this.decode(track).then(() => { if (this.origin) this.launch(track); });
      }
    }
  }

  static gain(decibels) {
    return decibels <= Player.OFF ? 0 : 10 ** (decibels / 20);
  }

  static OFF = -40;  // dB; a volume this low is none
}
