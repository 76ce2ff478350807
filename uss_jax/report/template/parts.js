// Elements, icons, numbers as text, and the tooltip.

const find = (id) => document.getElementById(id);

// An element; text always goes in as text, never as markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  on: "M4 9v6h4l5 5V4L8 9zM16 8.5a5 5 0 0 1 0 7M18.5 6a8.5 8.5 0 0 1 0 12",
  off: "M4 9v6h4l5 5V4L8 9zM16.5 9.5l5 5M21.5 9.5l-5 5",
  file: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  fold: "M9 6l6 6-6 6",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  svg.setAttribute("class", `icon icon-${name}`);
  return svg;
}

// Seconds as m:ss or h:mm:ss, with so many decimals.
function clock(seconds, decimals = 0) {
  const units = Math.round(seconds * 10 ** decimals);
  const whole = Math.floor(units / 10 ** decimals);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  const text = hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
  return decimals ? `${text}.${String(units % 10 ** decimals).padStart(decimals, "0")}` : text;
}

const duration = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds));
const hertz = (frequency) => (frequency < 1000 ? `${Math.round(frequency)} Hz` : `${(frequency / 1000).toFixed(1)} kHz`);
const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

// A tooltip at the pointer, or below an element that has the focus.
function tip(where, name, text, more) {
  const box = where instanceof Element ? where.getBoundingClientRect() : null;
  const [x, y] = box ? [box.left + box.width / 2, box.bottom] : [where.clientX, where.clientY + 12];
  const element = find("tip");
  element.replaceChildren(...[name && make("b", { textContent: name }), make("span", { textContent: text }), more && make("span", { textContent: more })].filter(Boolean));
  element.hidden = false;
  const { width, height } = element.getBoundingClientRect();
  element.style.left = `${Math.min(Math.max(4, x - width / 2), innerWidth - width - 4)}px`;
  element.style.top = `${y + 8 + height > innerHeight ? y - height - 28 : y + 8}px`;
}
