// Draws the page, and keeps it in step with the player.

const content = JSON.parse(document.getElementById("content").textContent);
const tracks = content.tracks;
const rows = [];  // of the tracks, by number
const player = new Player(
  tracks.length, content.heardSeconds, content.previewRate,
  (number) => document.getElementById(`sound-${number}`).textContent, () => show(),
);

const title = (track) => ({ mixture: "Recording", residual: "Residual" })[track.kind] ?? track.name;
const levels = [...new Set(tracks.map((track) => track.level).filter((level) => typeof level === "number"))].sort((a, b) => a - b);
const finest = levels.at(-1) ?? null;
const numbers = (test) => tracks.flatMap((track, number) => (test(track) ? [number] : []));

// What is heard at one click.
const PRESETS = [
  ["Recording", [0]],
  ...levels.map((level) => [
    level === finest ? `Level ${level} + residual` : `Level ${level}`,
    numbers((track) => track.level === level || (level === finest && track.kind === "residual")),
  ]),
  ...(levels.length && content.others.length ? [["Asked for", content.others]] : []),
  ...(levels.length ? [] : [["Stems + residual", numbers((track) => track.kind !== "mixture")]]),
].map(([name, chosen]) => {
  const button = make("button", { type: "button", textContent: name, onclick: () => player.choose(chosen) });
  return { chosen, button };
});

// The rows

function row(number, depth, foldable) {
  const track = tracks[number];
  const name = title(track);
  const on = make("button", { type: "button", class: "switch", onclick: () => player.set(number, { on: !player.tracks[number].on }) });
  const solo = make("button", { type: "button", class: "solo", textContent: "Solo", "aria-label": `Solo ${name}`,
    onclick: () => player.set(number, { solo: !player.tracks[number].solo }) });
  const volume = make("input", { type: "range", class: "volume", min: Player.OFF, max: 20, step: 1, value: 0,
    "aria-label": `Volume of ${name}` });
  const loudness = () => {
    const decibels = Number(volume.value);
    const text = decibels <= Player.OFF ? "silent" : `${decibels > 0 ? "+" : ""}${decibels} dB`.replace("-", "−");
    volume.title = `Volume: ${text}`;
    volume.setAttribute("aria-valuetext", text);
    return decibels;
  };
  volume.addEventListener("input", () => player.set(number, { volume: loudness() }));
  volume.addEventListener("dblclick", () => { volume.value = 0; player.set(number, { volume: loudness() }); });
  loudness();
  const head = make("div", { class: "head" },
    make("div", { class: "line" },
      ...(foldable ? [foldable] : []),
      ...(typeof track.level !== "number" ? [] : [make("span", { class: "chip", textContent: track.level, title: `Level ${track.level}` })]),
      make("span", { class: "name", textContent: name, title: name }),
      ...(track.file === null ? [] : [link(track.file)]),
      make("span", { class: "buttons" }, on, solo)),
    make("div", { class: "line small" }, statistics(track), volume));
  const line = make("div", { class: `row ${track.kind}`, "data-level": track.level ?? "none" }, head, lane(track));
  line.style.setProperty("--depth", depth);
  rows[number] = { line, on, solo, name };
  return line;
}

// The full file. Whatever the path holds, it stays a path below this page.
function link(file) {
  const path = file.split("/").map(encodeURIComponent).join("/");
  return make("a", { class: "file", href: `./${path}`, title: `Full file: ${file}`, "aria-label": `Full file: ${file}` }, icon("file"));
}

function statistics(track) {
  const parts = [];
  if (track.kind === "mixture") parts.push(["everything together", ""]);
  if (track.listenedFor) parts.push(track.peak === null ? ["never active", ""] : ["peak", track.peak.toFixed(2)]);
  if (track.energyShare !== null && track.kind !== "mixture") parts.push(["energy", percent(track.energyShare)]);
  if (track.activeSeconds) parts.push(["active", duration(track.activeSeconds)]);
  return make("span", { class: "statistics" }, ...parts.map(([name, value]) => make("span", {}, name, " ", make("b", { textContent: value }))));
}

function lane(track) {
  const name = title(track);
  const marks = (track.bars ?? []).map(([onset, offset, mean, peak, count], place) => {
    const text = `${clock(onset, 1)} – ${clock(offset, 1)}, probability ${mean.toFixed(2)}, at most ${peak.toFixed(2)}`;
    const bar = make("button", { type: "button", class: "bar", tabIndex: place ? -1 : 0,
      "aria-label": `${name}: ${text}${count > 1 ? `, ${count} events` : ""}`,
      onfocus: () => tip(bar, name, text, count > 1 ? `${count} events close together` : ""),
      onblur: () => { find("tip").hidden = true; },
      onclick: (event) => { if (!event.detail) player.seek(onset); },  // by keyboard; the lane itself takes clicks
    });
    bar.dataset.tip = JSON.stringify([name, text, count > 1 ? `${count} events close together` : ""]);
    bar.style.left = `${(100 * onset) / content.seconds}%`;
    bar.style.width = `${(100 * (offset - onset)) / content.seconds}%`;
    bar.style.setProperty("--strength", 0.35 + 0.65 * mean);
    return bar;
  });
  const bars = make("div", { class: "bars", role: "group", "aria-label": `Activity of ${name}` }, ...marks);
  bars.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = marks[marks.indexOf(document.activeElement) + step];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    if (!next) return;
    for (const mark of marks) mark.tabIndex = mark === next ? 0 : -1;
    next.focus();
  });
  const labels = content.frequencies.map(([frequency, place]) => {
    const label = make("span", { class: [1000, 10000].includes(frequency) ? "major" : "minor",
      textContent: frequency < 1000 ? frequency : `${frequency / 1000}k` });
    label.style.bottom = `${100 * place}%`;
    return label;
  });
  const picture = make("div", { class: "picture" },
    make("img", { src: track.picture, alt: `Spectrogram of ${name}`, draggable: false }),
    make("div", { class: "frequencies", "aria-hidden": "true" }, ...labels));
  const whole = make("div", { class: "lane" }, bars, picture, make("div", { class: "marks" }));
  seekable(whole, picture);
  return whole;
}

// Clicks and drags move the player; hovering says where one is.
function seekable(lane, picture) {
  const seconds = (event) => {
    const box = lane.getBoundingClientRect();
    return (content.seconds * Math.min(Math.max(0, event.clientX - box.left), box.width)) / box.width;
  };
  let dragging = false;
  lane.addEventListener("pointerdown", (event) => { if (event.button === 0) dragging = true; });
  lane.addEventListener("pointermove", (event) => {
    document.body.style.setProperty("--hover", seconds(event) / content.seconds);
    lane.classList.add("hovered");
    if (dragging) drawPosition(Math.min(seconds(event), content.heardSeconds));
    const bar = event.target.closest(".bar");
    if (bar) {
      tip(event, ...JSON.parse(bar.dataset.tip));
    } else {
      const box = picture.getBoundingClientRect();
      const place = (box.bottom - event.clientY) / box.height;
      const pitch = content.pitches[0] + place * (content.pitches[1] - content.pitches[0]);
      tip(event, "", clock(seconds(event), 1), place >= 0 && place <= 1 ? hertz(228.8 * (10 ** (pitch / 21.4) - 1)) : "");
    }
  });
  lane.addEventListener("pointerleave", () => { find("tip").hidden = true; lane.classList.remove("hovered"); dragging = false; });
  lane.addEventListener("pointercancel", () => { dragging = false; });
  lane.addEventListener("pointerup", (event) => { if (dragging) player.seek(seconds(event)); dragging = false; });
}

function branches(nodes, depth) {
  return make("ul", { class: "branch" }, ...nodes.map((node) => {
    const below = node.children.length ? branches(node.children, depth + 1) : null;
    const fold = below && make("button", { type: "button", class: "fold", "aria-expanded": "true", "aria-label": `Sounds below ${node.name}`,
      onclick: () => { below.hidden = !below.hidden; fold.setAttribute("aria-expanded", String(!below.hidden)); } }, icon("fold"));
    if (node.track !== null) return make("li", {}, row(node.track, depth, fold), ...(below ? [below] : []));
    const heading = make("div", { class: "heading", "data-level": node.level },
      ...(fold ? [fold] : []), make("span", { class: "chip", textContent: node.level, title: `Level ${node.level}` }),
      make("span", { class: "name", textContent: node.name }));
    heading.style.setProperty("--depth", depth);
    return make("li", {}, heading, ...(below ? [below] : []));
  }));
}

function group(name, ...inside) {
  return make("section", {}, make("h2", { textContent: name }), ...inside);
}

function scale() {
  const bar = make("span", { class: "gradient" });
  bar.style.background = `linear-gradient(to right, ${content.colours.join(", ")})`;
  return make("span", { class: "scale", title: "0 dB is the loudest point of the recording's spectrogram; all pictures share this scale" },
    `−${content.rangeDb} dB`, bar, "0 dB");
}

function build() {
  document.title = `${content.title} – separated recording`;
  find("title").textContent = content.title;
  const stems = tracks.filter((track) => track.kind === "stem").length;
  const channels = { 1: "mono", 2: "stereo" }[content.channels] ?? `${content.channels} channels`;
  find("facts").textContent = [
    duration(content.seconds), `${content.sampleRate / 1000} kHz`, channels,
    plural(stems, "sound") + (levels.length > 1 ? ` on levels ${levels.join(", ")} of the ontology` : ""),
  ].join(" · ");
  const notes = [];
  if (stems) notes.push(`${levels.length ? `The sounds of level ${finest}` : "The sounds"} and the residual add up to the recording.`);
  if (levels.length > 1) notes.push("A sound is part of those above it in the tree: hearing stems of several levels together plays it twice.");
  if (content.heardSeconds < content.seconds - 0.05) {
    notes.push(`This page plays the first ${clock(content.heardSeconds)} of ${clock(content.seconds)}; the whole sounds are in the files beside it.`);
  }
  notes.push(`What plays here is a preview at ${content.previewRate / 1000} kHz; each row links to its full file.`);
  const compact = make("button", { type: "button", class: "toggle", textContent: "Spectrograms", "aria-pressed": "true", onclick: () => {
    const hidden = document.body.classList.toggle("compact");
    compact.setAttribute("aria-pressed", String(!hidden));
  } });
  find("notes").append(make("p", { textContent: notes.join(" ") }), make("p", { class: "legend" }, scale(), compact));
  find("tracks").append(
    make("div", { class: "ruler" }, make("div", { class: "ticks", id: "ticks", "aria-hidden": "true" })),
    group("What came in", row(0, 0, null)),
    ...(content.tree.length ? [group("What was found", branches(content.tree, 0))] : []),
    ...(content.others.length ? [group("What was asked for by name or example", ...content.others.map((number) => row(number, 0, null)))] : []),
    group("What is left", row(tracks.length - 1, 0, null)));
  find("presets").append(...PRESETS.map((preset) => preset.button));
  find("whole").textContent = ` / ${clock(content.heardSeconds, 1)}`;
  find("seek").max = content.heardSeconds;
  document.body.style.setProperty("--heard", content.heardSeconds / content.seconds);
}

// The time axis

function drawTicks() {
  const width = find("ticks").clientWidth;
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600];
  const step = steps.find((seconds) => (seconds / content.seconds) * width >= 64) ?? 43200;
  const decimals = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
  const ticks = [];
  for (let i = 0; i * step <= content.seconds; i++) {
    const tick = make("span", { class: "tick", textContent: clock(i * step, decimals) });
    tick.style.left = `${(100 * i * step) / content.seconds}%`;
    const [room, apart] = [content.seconds - i * step, step].map((seconds) => (seconds / content.seconds) * width);
    const needed = 8 + 6.5 * tick.textContent.length;
    if (room < needed) tick.classList.add("last");  // its text stands to its left, if there is room
    if (room < needed && apart < 2 * needed) tick.textContent = "";
    ticks.push(tick);
  }
  find("ticks").replaceChildren(...ticks);
  document.body.style.setProperty("--step", `${(100 * step) / content.seconds}%`);
}

// What changes

function drawPosition(seconds) {
  document.body.style.setProperty("--at", seconds / content.seconds);
  find("now").textContent = clock(seconds, 1);
  find("seek").setAttribute("aria-valuetext", clock(seconds));
  find("seek").value = seconds;
}

function show() {
  const heard = player.tracks.filter((track) => player.audible(track));
  const soloing = player.tracks.some((track) => track.solo);
  document.body.classList.toggle("soloing", soloing);
  rows.forEach(({ line, on, solo, name }, number) => {
    const track = player.tracks[number];
    line.classList.toggle("audible", player.audible(track));
    line.classList.toggle("failed", track.failed);
    if (on.dataset.on !== String(track.on)) on.replaceChildren(icon(track.on ? "on" : "off"));
    on.dataset.on = track.on;
    on.setAttribute("aria-pressed", String(track.on));
    on.setAttribute("aria-label", `${track.on ? "Mute" : "Unmute"} ${name}`);
    on.title = track.on ? "Mute" : "Unmute";
    solo.setAttribute("aria-pressed", String(track.solo));
  });
  for (const { chosen, button } of PRESETS) {
    const same = !soloing && player.tracks.every((track) => track.on === chosen.includes(track.number));
    button.setAttribute("aria-pressed", String(same));
  }
  const named = heard.slice(0, 4).map((track) => title(tracks[track.number]));
  if (heard.length > 4) named.push(`${heard.length - 4} more`);
  find("hearing").textContent = heard.length ? `${soloing ? "Solo: " : "Hearing: "}${named.join(" + ")}` : "Everything is muted";
  find("unsolo").hidden = !soloing;
  if (find("play").dataset.playing !== String(player.playing)) find("play").replaceChildren(icon(player.playing ? "pause" : "play"));
  find("play").dataset.playing = player.playing;
  find("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  drawPosition(player.position());
  if (player.playing && !show.running) {
    show.running = true;
    requestAnimationFrame(follow);
  }
}

function follow() {
  player.tick();
  if (player.origin) drawPosition(player.position());
  show.running = player.playing;
  if (show.running) requestAnimationFrame(follow);
}

const toggle = () => (player.playing ? player.pause() : player.play());

build();
find("play").addEventListener("click", toggle);
find("unsolo").addEventListener("click", () => player.unsolo());
find("seek").addEventListener("input", () => player.seek(Number(find("seek").value)));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const step = event.shiftKey ? 1 : 5;
  const moves = { ArrowLeft: player.position() - step, ArrowRight: player.position() + step, Home: 0, End: content.heardSeconds };
  if (event.key === " " && !event.target.closest("button, a")) toggle();
  else if (event.key in moves && !event.target.closest(".volume")) player.seek(moves[event.key]);
  else return;
  event.preventDefault();
});
document.addEventListener("click", (event) => {
  if (event.detail) event.target.closest("button")?.blur();  // so that after a click with the mouse, space plays
});
new ResizeObserver(drawTicks).observe(find("ticks"));
new ResizeObserver(() => document.body.style.setProperty("--top", `${find("transport").offsetHeight}px`)).observe(find("transport"));
drawTicks();
show();
