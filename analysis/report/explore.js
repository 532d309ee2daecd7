"use strict";
// Draws the trials of a sweep from the JSON in #data: curves, slices, parallel coordinates. No library.
// A panel is as many units wide as it has pixels, so that texts keep their size on every screen.
const data = JSON.parse(document.getElementById("data").textContent);
const looks = new Map(data.arms.map((arm) => [arm.name, arm]));
const shown = new Set(looks.keys());
const panels = document.getElementById("panels");
const H = 300, LEFT = 58, RIGHT = 14, TOP = 12, BOTTOM = 42;
const LINE = 1.4, SIZE = 9, RING = 17;
const ASIDE = 30;  // room beside a slice's outermost values, for marks that stand beside others
const STEP = 150, NAME = 24;  // parallel coordinates: between two axes, and letters of a name
const made = (name, attributes = {}, text = "", space = "http://www.w3.org/2000/svg") => {
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
const html = (name, attributes, text) => made(name, attributes, text, "http://www.w3.org/1999/xhtml");
const isNumber = (value) => typeof value === "number";
function short(text, most = 24) {
  const letters = [...text];
  if (letters.length <= most) return text;
  return letters.slice(0, most / 2).join("") + "…" + letters.slice(1 - most / 2).join("");
}
const pen = document.createElement("canvas").getContext("2d");
pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
const widthOf = (text) => pen.measureText(text).width;
const told = (value, digits = 3) => {
  if (!isNumber(value)) return value === null ? "none" : String(value);
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(value) >= size) return +(value / size).toPrecision(digits) + letter;
  return String(+value.toPrecision(digits));
};

// A scale from values to `from`..`to`: numbers, or names in their order. `text`: what stands at a tick.
const NEAR = 0.35;  // of the way between two ticks, within which an axis goes on to the outer one
function scale(values, from, to, log) {
  values = values.filter((value) => value !== null);
  if (!values.every(isNumber)) {
    const names = [...new Set(values.map(String))];
    const at = (value) => from + (to - from) * (names.indexOf(String(value)) + 0.5) / names.length;
    return { at, ticks: names, text: String };
  }
  if (!values.length) return { at: () => from, ticks: [], text: told };
  log = log && values.every((value) => value > 0);
  const f = log ? Math.log10 : (value) => value;
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low === high) { low = log ? low / 2 : low - 0.5; high = log ? high * 2 : high + 0.5; }
  const outer = log ? powers(low, high) : steps(low, high, values.every(Number.isInteger));
  [low, high] = [onto(low, outer, f), onto(high, outer.toReversed(), f)];
  const within = (ticks) => ticks.filter((tick) => tick >= low && tick <= high);
  let ticks = within(outer);
  if (ticks.length < 2 && log) ticks = within(steps(low, high, false));
  let digits = 3;
  while (digits < 15 && new Set(ticks.map((tick) => told(tick, digits))).size < ticks.length) digits++;
  const at = (value) => from + (to - from) * (0.03 + 0.94 * (f(value) - f(low)) / (f(high) - f(low)));
  return { at, ticks, text: (tick) => told(tick, digits) };
}
// An end of an axis, or the tick just outside it where that is near. `ticks` run from outside to inside.
function onto(end, ticks, f) {
  const inside = ticks.findIndex((tick) => (tick - end) * (ticks[1] - ticks[0]) > 0);
  const [outer, inner] = [f(ticks[inside - 1]), f(ticks[inside])];
  return Math.abs(outer - f(end)) < NEAR * Math.abs(outer - inner) ? ticks[inside - 1] : end;
}
// Round numbers from below `low` to above `high`; whole ones for settings that are whole.
function steps(low, high, whole) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  let step = power * [1, 2, 5, 10].find((part) => part * power >= rough);
  if (whole) step = Math.max(1, step);
  const ticks = [];
  for (let i = Math.floor(low / step); i <= Math.ceil(high / step); i++)
    ticks.push(step < 1 ? i / Math.round(1 / step) : i * step);
  return ticks;
}
function powers(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))], ticks = [];
  for (let power = first; power <= last; power++)
    for (const part of Math.log10(high / low) > 2 ? [1] : [1, 2, 5]) ticks.push(+`${part}e${power}`);
  return ticks;
}

// A panel under its title: at least `least` wide, and below that its box scrolls. Texts go over the marks.
function panel(title, { height = H, least = 0, wide = least > 0 } = {}) {
  const around = html("div", { class: wide ? "panel all" : "panel" }), box = html("div", { class: "scroll" });
  if (least) box.tabIndex = 0;
  around.append(html("p", { class: "title" }, title), box);
  panels.append(around);
  const width = Math.max(box.clientWidth, least, 240);
  const svg = made("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "plot",
    style: `min-width:${least}px`,
  });
  const layers = ["grid", "marks", "texts"].map((name) => made("g", { class: name }));
  svg.append(...layers);
  box.append(svg);
  const [grid, marks, texts] = layers;
  return { width, height, marks,
    rule: (x1, y1, x2, y2) => grid.append(made("line", { x1, x2, y1, y2 })),
    write: (text, x, y, anchor = "middle") =>
      texts.append(made("text", { x, y, "text-anchor": anchor }, text)) };
}
function axes(on, x, y, label) {
  const right = on.width - RIGHT;
  for (const tick of y.ticks) {
    on.rule(LEFT, y.at(tick), right, y.at(tick));
    on.write(y.text(tick), LEFT - 6, y.at(tick) + 4, "end");
  }
  let free = 0;  // up to here the line of ticks is taken
  for (const tick of x.ticks) {
    const text = short(x.text(tick), 12), half = widthOf(text) / 2;
    if (x.at(tick) - half < free) continue;
    on.write(text, Math.min(x.at(tick), on.width - half), on.height - BOTTOM + 18);
    free = x.at(tick) + half + 4;
  }
  on.write(label, (LEFT + right) / 2, on.height - 6);
}

// An arm's line and its mark, for a trial or for itself. The mark is open where the trial did not complete.
const dashed = (arm) =>
  arm.dashes.length ? { "stroke-dasharray": arm.dashes.map((n) => n * LINE).join(" ") } : {};
const colored = (arm, trial) => ({ style: `color:${arm.color}`, ...(trial && { "data-id": trial.id }) });
function shape(arm, x, y, trial, size = SIZE) {
  const full = !trial || trial.status === "completed";
  return made("path", { d: arm.mark, class: `mark point ${full ? "full" : "open"}`, ...colored(arm, trial),
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${size})` });
}
function line(trial, points) {
  const arm = looks.get(trial.arm), text = points.map((point) => point.map((n) => n.toFixed(1))).join(" ");
  return made("polyline", { points: text, class: "mark", ...dashed(arm), ...colored(arm, trial) });
}
// Lines that end in marks, which stand over all lines.
function drawLines(on, lines) {
  lines = lines.filter(([, points]) => points.length);
  on.marks.append(...lines.map(([trial, points]) => line(trial, points)));
  for (const [trial, points] of lines)
    on.marks.append(shape(looks.get(trial.arm), ...points.at(-1), trial, SIZE - 1));
}

const titled = (metric) => metric.label + (metric.unit && ` (${metric.unit})`);
const trialsOf = (phase) =>
  data.trials.filter((trial) => shown.has(trial.arm) && (phase === "all" || phase === trial.phase));
const endedOf = (phase) => trialsOf(phase).filter((trial) => trial.value !== null);
const phaseText = (phase) => phase === "all" ? "" : `, trials of the ${phase}`;

function drawCurves() {
  const metric = data.metrics[metrics.value], over = data.over[overs.value], trials = trialsOf(phase.value);
  if (!metric || !over) return;
  const on = panel(titled(metric) + phaseText(phase.value), { wide: !data.keys.length });
  const points = trials.map((trial) => trial.curves[over.name].map((x, i) => {
    const y = trial.curves[metric.name][i];
    return [x, y === null ? null : y * metric.factor];
  }).filter((point) => point.every(isNumber)));
  const all = points.flat();
  const x = scale(all.map((point) => point[0]), LEFT, on.width - RIGHT);
  const y = scale(all.map((point) => point[1]), on.height - BOTTOM, TOP);
  axes(on, x, y, over.label);
  drawLines(on, trials.map((trial, i) => [trial, points[i].map((p) => [x.at(p[0]), y.at(p[1])])]));
}

// Where marks stand, given as { x, y, width }: beside others, left and right in turn, where they would cover
// them. None goes nearer to another mark's `x` than to its own; where there is no room, it stays.
function spread(marks, left, right) {
  const values = [...new Set(marks.map((mark) => mark.x))], found = [];
  const covers = (a, b) =>
    Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y)) < (a.width + b.width) / 2 - 0.01;
  for (const mark of marks) {
    const middles = values.map((x) => (x + mark.x) / 2);
    const low = Math.max(left, ...middles.filter((x) => x < mark.x));
    const high = Math.min(right, ...middles.filter((x) => x > mark.x));
    const tried = Array.from({ length: 2 * Math.ceil((high - low) / mark.width) + 1 }, (_, i) =>
      ({ ...mark, x: mark.x + mark.width * Math.ceil(i / 2) * (i % 2 ? 1 : -1) }));
    const isFree = (each) =>
      each.x >= low && each.x <= high && !found.some((other) => covers(each, other));
    found.push(tried.find(isFree) ?? mark);
  }
  return found;
}

function drawSlices() {
  const ended = endedOf(sliced.value);
  data.keys.forEach((key, place) => {
    const on = panel(`${titled(data.objective)} by ${key.name}${phaseText(sliced.value)}`);
    const own = ended.filter((trial) => trial.tuned[place] !== null);
    const x = scale(own.map((trial) => trial.tuned[place]), LEFT + ASIDE, on.width - RIGHT - ASIDE, key.log);
    const y = scale(own.map((trial) => trial.value), on.height - BOTTOM, TOP);
    axes(on, x, y, key.name);
    const marks = own.map((trial) => ({
      trial, x: x.at(trial.tuned[place]), y: y.at(trial.value),
      width: trial.chosen && trial.phase === "search" ? 0.8 * RING : SIZE,
    }));
    for (const mark of spread(marks, LEFT + SIZE, on.width - SIZE)) {
      on.marks.append(shape(looks.get(mark.trial.arm), mark.x, mark.y, mark.trial));
      if (mark.width > SIZE)
        on.marks.append(made("circle", { cx: mark.x, cy: mark.y, r: RING / 2, class: "ring" }));
    }
  });
}

function drawParallel() {
  const ended = endedOf(phase.value), arms = data.arms.filter((arm) => shown.has(arm.name));
  const names = arms.map((arm) => short(arm.name, NAME));
  const columns = [
    ["arm", (trial) => trial.arm, false],
    ...data.keys.map((key, i) => [key.name, (trial) => trial.tuned[i], key.log]),
    ["seed", (trial) => trial.seed, false],
    [titled(data.objective), (trial) => trial.value, false],
  ];
  const left = 20 + Math.max(widthOf("arm"), ...names.map(widthOf));
  const right = Math.max(50, 4 + widthOf(short(columns.at(-1)[0])) / 2);
  const least = left + right + STEP * (columns.length - 1), height = Math.max(H, 60 + 18 * arms.length);
  const on = panel(`Parallel coordinates${phaseText(phase.value)}`, { height, least });
  const top = 30, foot = on.height - 14;
  const places = columns.map(([name, value, log], i) => {
    const at = left + (on.width - left - right) * i / (columns.length - 1);
    const y = i ? scale(ended.map(value), foot, top, log) : scale(arms.map((arm) => arm.name), top, foot);
    on.rule(at, top - 6, at, foot + 6);
    on.write(short(name), at, 14);
    for (const tick of i && y.ticks.length > 14 ? [] : y.ticks)
      on.write(short(y.text(tick), i ? 16 : NAME), at + (i ? 8 : -10), y.at(tick) + 4, i ? "start" : "end");
    return (trial) => value(trial) === null ? null : [at, y.at(value(trial))];
  });
  drawLines(on, ended.map((trial) => [trial, places.map((place) => place(trial)).filter((point) => point)]));
  on.marks.append(...arms.map((arm) => shape(arm, ...places[0]({ arm: arm.name }))));
}

let drawn = 0;  // how wide the page was
function draw() {
  const scrolled = [...panels.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  panels.style.minHeight = `${panels.offsetHeight}px`;  // the page does not jump
  panels.replaceChildren();
  drawCurves();
  drawSlices();
  drawParallel();
  panels.style.minHeight = "";
  panels.querySelectorAll(".scroll").forEach((box, i) => box.scrollLeft = scrolled[i] ?? 0);
  drawn = panels.clientWidth;
}

const setting = (value) => Number.isInteger(value) ? String(value) : told(value);
// Pointing at a mark lights its trial in every panel, and says what it is.
panels.addEventListener("pointerover", (event) => {
  const id = event.target.getAttribute("data-id"), trial = data.trials.find((each) => each.id === id);
  for (const svg of document.querySelectorAll("svg.plot")) svg.classList.toggle("some", Boolean(trial));
  for (const node of document.querySelectorAll(".plot .mark"))
    node.classList.toggle("lit", Boolean(trial) && node.getAttribute("data-id") === id);
  document.getElementById("told").textContent = !trial ? "No trial is pointed at." : [
    `${trial.id}: ${trial.arm}, draw ${trial.draw}, seed ${trial.seed}`, `${trial.phase}, ${trial.status}`,
    ...data.keys.map((key, i) => `${key.name} ${setting(trial.tuned[i])}`),
    `${data.objective.label} ${told(trial.value)}${isNumber(trial.value) ? data.objective.unit : ""}`,
  ].join("; ");
});
function choice(label, options) {
  const select = html("select", { "aria-label": label });
  options.forEach(([value, text]) => select.append(html("option", { value }, text)));
  const around = html("label", {}, `${label} `);
  around.append(select);
  if (options.length > 1) document.getElementById("controls").append(around);
  select.addEventListener("change", draw);
  return select;
}
const metrics = choice("Curve", data.metrics.map((metric, i) => [i, metric.label]));
const overs = choice("over", data.over.map((over, i) => [i, over.label]));
const phases = ["search", "evidence"].filter((name) => data.trials.some((trial) => trial.phase === name));
const all = [["all", "all"]], each = phases.length > 1 ? phases.map((name) => [name, `of the ${name}`]) : [];
const phase = choice("Trials", [...all, ...each]);
// Settings were varied in the search; the evidence repeats what was chosen there.
const sliced = choice("in slices", data.keys.length ? [...each, ...all] : all);
for (const arm of data.arms) {
  const button = html("button", { type: "button", "aria-pressed": "true" });
  const key = made("svg", { class: "key", viewBox: "0 0 30 12", "aria-hidden": "true" });
  key.append(made("line", { x1: 0, x2: 30, y1: 6, y2: 6, class: "mark", ...dashed(arm), ...colored(arm) }));
  key.append(shape(arm, 15, 6));
  button.append(key, arm.name);
  button.addEventListener("click", (event) => {
    if (event.shiftKey) { shown.clear(); shown.add(arm.name); }
    else if (!shown.delete(arm.name)) shown.add(arm.name);
    document.querySelectorAll("#arms button").forEach((other, i) =>
      other.setAttribute("aria-pressed", shown.has(data.arms[i].name)));
    draw();
  });
  document.getElementById("arms").append(button);
}
addEventListener("resize", () => panels.clientWidth !== drawn && draw());
draw();
