"use strict";
// Draws the trials of a sweep from the JSON in #data: curves, slices, parallel coordinates. No library.
const data = JSON.parse(document.getElementById("data").textContent);
const color = Object.fromEntries(data.arms.map((arm) => [arm.name, arm.color]));
const shown = new Set(data.arms.map((arm) => arm.name));
const W = 520, H = 300, LEFT = 58, RIGHT = 14, TOP = 26, BOTTOM = 42;
const made = (name, attributes = {}, text = "", space = "http://www.w3.org/2000/svg") => {
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
const html = (name, attributes, text) => made(name, attributes, text, "http://www.w3.org/1999/xhtml");
const isNumber = (value) => typeof value === "number";
const short = (text, most = 24) => text.length > most ? text.slice(0, most / 2) + "…" + text.slice(-most / 2 + 1) : text;
const told = (value) => {
  if (!isNumber(value)) return value === null ? "none" : String(value);
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(value) >= size) return +(value / size).toPrecision(3) + letter;
  return String(+value.toPrecision(3));
};

// A scale from values to `from`..`to`: numbers, or names in their order.
function scale(values, from, to, log) {
  values = values.filter((value) => value !== null);
  if (!values.every(isNumber)) {
    const names = [...new Set(values.map(String))];
    const at = (value) => from + (to - from) * (names.indexOf(String(value)) + 0.5) / names.length;
    return { at, ticks: names };
  }
  log = log && values.every((value) => value > 0);
  const f = log ? Math.log10 : (value) => value;
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low === high) { low = log ? low / 2 : low - 0.5; high = log ? high * 2 : high + 0.5; }
  const at = (value) => from + (to - from) * (0.03 + 0.94 * (f(value) - f(low)) / (f(high) - f(low)));
  const ticks = [];
  if (log) {
    for (let power = Math.floor(f(low)); power <= f(high); power++)
      for (const part of f(high) - f(low) > 2 ? [1] : [1, 2, 5]) ticks.push(part * 10 ** power);
  } else {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((part) => part * power >= rough);
    for (let tick = Math.ceil(low / step); tick * step <= high; tick++) ticks.push(tick * step);
  }
  return { at, ticks: ticks.filter((tick) => tick >= low && tick <= high) };
}

function panel(title, width = W) {
  const svg = made("svg", { viewBox: `0 0 ${width} ${H}`, role: "img", class: "plot" });
  svg.append(made("title", {}, title), made("text", { x: 4, y: 14 }, title));
  document.getElementById("panels").append(svg);
  return svg;
}
function axes(svg, x, y, label) {
  for (const tick of y.ticks) {
    svg.append(made("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y.at(tick), y2: y.at(tick) }));
    svg.append(made("text", { x: LEFT - 6, y: y.at(tick) + 4, "text-anchor": "end" }, told(tick)));
  }
  for (const tick of x.ticks)
    svg.append(made("text", { x: x.at(tick), y: H - BOTTOM + 18, "text-anchor": "middle" }, short(told(tick), 12)));
  svg.append(made("text", { x: (LEFT + W - RIGHT) / 2, y: H - 6, "text-anchor": "middle" }, label));
}
function mark(svg, trial, name, attributes) {
  const full = name === "circle" && trial.status === "completed" ? " full" : "";
  const dashed = name !== "circle" && trial.status !== "completed" ? { "stroke-dasharray": "5 3" } : {};
  svg.append(made(name, { class: `mark${name === "circle" ? " dot" : ""}${full}`, "data-id": trial.id,
    style: `color:${color[trial.arm]}`, ...dashed, ...attributes }));
}
const line = (points) => points.filter((point) => point.every(isNumber)).map((point) => point.map((n) => n.toFixed(1))).join(" ");

function draw() {
  document.getElementById("panels").replaceChildren();
  const trials = data.trials.filter((trial) => shown.has(trial.arm) && (phase.value === "all" || phase.value === trial.phase));
  const metric = data.metrics[metrics.value], over = data.over[overs.value];
  if (metric && over) {
    const svg = panel(metric.label + (metric.unit && ` (${metric.unit})`));
    const points = (trial) => trial.curves[over.name].map((x, i) => {
      const y = trial.curves[metric.name][i];
      return [x, y === null ? null : y * metric.factor];
    }).filter((point) => point.every(isNumber));
    const all = trials.flatMap(points);
    const x = scale(all.map((p) => p[0]), LEFT, W - RIGHT), y = scale(all.map((p) => p[1]), H - BOTTOM, TOP);
    axes(svg, x, y, over.label);
    for (const trial of trials) mark(svg, trial, "polyline", { points: line(points(trial).map((p) => [x.at(p[0]), y.at(p[1])])) });
  }
  const target = data.objective.label + (data.objective.unit && ` (${data.objective.unit})`);
  const ended = trials.filter((trial) => trial.value !== null);
  data.keys.forEach((key, place) => {
    const svg = panel(`${target} by ${key.name}`), own = ended.filter((trial) => trial.tuned[place] !== null);
    const x = scale(own.map((trial) => trial.tuned[place]), LEFT, W - RIGHT, key.log);
    const y = scale(own.map((trial) => trial.value), H - BOTTOM, TOP);
    axes(svg, x, y, key.name);
    for (const trial of own) {
      const at = { cx: x.at(trial.tuned[place]), cy: y.at(trial.value) };
      mark(svg, trial, "circle", { ...at, r: 4 });
      if (trial.chosen && trial.phase === "search") svg.append(made("circle", { ...at, r: 8, fill: "none", stroke: "currentColor" }));
    }
  });
  const columns = [["arm", (trial) => trial.arm, false], ...data.keys.map((key, i) => [key.name, (trial) => trial.tuned[i], key.log]),
    ["seed", (trial) => trial.seed, false], [target, (trial) => trial.value, false]];
  const wide = 2 * W, svg = panel("Parallel coordinates", wide);
  svg.classList.add("all");
  const places = columns.map(([name, of, log], i) => {
    const at = 110 + (wide - 220) * i / (columns.length - 1), names = i === 0,
      y = names ? scale(data.arms.map((arm) => arm.name).filter((name) => shown.has(name)), 44, H - 24) : scale(ended.map(of), H - 24, 44, log);
    svg.append(made("line", { class: "grid", x1: at, x2: at, y1: 40, y2: H - 20 }));
    svg.append(made("text", { x: at, y: 34, "text-anchor": "middle" }, short(name)));
    for (const tick of y.ticks.length > 14 ? [] : y.ticks)
      svg.append(made("text", { x: at + (i ? 6 : -6), y: y.at(tick) + 4, "text-anchor": i ? "start" : "end" }, short(told(tick), 16)));
    return (trial) => of(trial) === null ? null : [at, y.at(of(trial))];
  });
  for (const trial of ended)
    mark(svg, trial, "polyline", { points: line(places.map((place) => place(trial)).filter((point) => point)) });
}

// Pointing at a mark lights its trial in every panel, and says what it is.
document.getElementById("panels").addEventListener("pointerover", (event) => {
  const id = event.target.getAttribute("data-id"), trial = data.trials.find((each) => each.id === id);
  for (const svg of document.querySelectorAll("svg.plot")) svg.classList.toggle("some", Boolean(trial));
  for (const node of document.querySelectorAll(".mark")) node.classList.toggle("lit", node.getAttribute("data-id") === id);
  document.getElementById("told").textContent = !trial ? "No trial is pointed at." : [
    `${trial.id}: ${trial.arm}, draw ${trial.draw}, seed ${trial.seed}`, `${trial.phase}, ${trial.status}`,
    ...data.keys.map((key, i) => `${key.name} ${told(trial.tuned[i])}`),
    `${data.objective.label} ${told(trial.value)}${data.objective.unit}`].join("; ");
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
const phase = choice("Trials", [["all", "all"], ["search", "of the search"], ["evidence", "of the evidence"]]);
for (const arm of data.arms) {
  const button = html("button", { type: "button", "aria-pressed": "true" });
  button.append(html("span", { style: `color:${arm.color}` }, "● "), arm.name);
  button.addEventListener("click", (event) => {
    if (event.shiftKey) { shown.clear(); shown.add(arm.name); }
    else if (!shown.delete(arm.name)) shown.add(arm.name);
    document.querySelectorAll("#arms button").forEach((each, i) => each.setAttribute("aria-pressed", shown.has(data.arms[i].name)));
    draw();
  });
  document.getElementById("arms").append(button);
}
draw();
