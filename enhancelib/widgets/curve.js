// Two terms of an objective against each other, as SVG. Plain ES module: no build step.

const SHELL = document.createElement("div");
SHELL.innerHTML = "<svg></svg>";
const NS = SHELL.firstChild.namespaceURI;
const HEIGHT = 290;
const EDGE = { left: 66, right: 16, top: 12, bottom: 46 };
const LOG_FROM = 30; // an axis whose values span more than this is logarithmic

function draw(tag, parent, attributes = {}, text = "") {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function short(number) {
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size < 1e-3 || size >= 1e5) {
    return number.toExponential(1).replace(".0e", "e").replace("e+", "e");
  }
  return String(Number(number.toPrecision(3)));
}

// An axis: from values to pixels, with its ticks.
function axis(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low > LOG_FROM;
  if (log) [low, high] = [Math.log10(low), Math.log10(high)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [low - room, high + room];
  const place = (value) => ((log ? Math.log10(value) : value) - low) / (high - low);
  const at = (value) => from + (to - from) * place(value);
  return { at, log, ticks: log ? decades(low, high) : evenly(low, high) };
}

function evenly(low, high) {
  const raw = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) ticks.push(k * step);
  return ticks;
}

function decades(low, high) {
  const factors = high - low > 4 ? [1] : high - low > 2 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power += 1) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (Math.log10(value) >= low && Math.log10(value) <= high) ticks.push(value);
    }
  }
  return ticks;
}

function render({ model, el }) {
  const root = document.createElement("figure");
  root.className = "enh-curve";
  const svg = draw("svg", root, {
    class: "enh-chart", tabindex: "0", role: "application", height: HEIGHT,
    "aria-roledescription": "chart",
    "data-lm-suppress-shortcuts": "true", // else JupyterLab's own shortcuts take the arrow keys
  });
  const legend = document.createElement("div");
  legend.className = "enh-legend";
  const said = document.createElement("figcaption");
  said.className = "enh-point-said";
  said.setAttribute("role", "status");
  const note = document.createElement("p");
  note.className = "enh-curve-note";
  root.append(legend, said, note);
  el.append(root);
  let focus = null; // [line, point]
  let places = []; // {line, point, x, y} in pixels

  const lines = () => model.get("lines").filter((line) => line.points.length);

  function frame(across, up, width) {
    const [x, y] = [model.get("x"), model.get("y")];
    const right = width - EDGE.right;
    const bottom = HEIGHT - EDGE.bottom;
    for (const value of across.ticks) {
      const at = across.at(value);
      draw("line", svg, { class: "enh-grid", x1: at, x2: at, y1: EDGE.top, y2: bottom });
      const place = { x: at, y: bottom + 16, "text-anchor": "middle" };
      draw("text", svg, { class: "enh-tick", ...place }, short(value));
    }
    for (const value of up.ticks) {
      const at = up.at(value);
      draw("line", svg, { class: "enh-grid", x1: EDGE.left, x2: right, y1: at, y2: at });
      const place = { x: EDGE.left - 6, y: at + 4, "text-anchor": "end" };
      draw("text", svg, { class: "enh-tick", ...place }, short(value));
    }
    draw("path", svg, { class: "enh-axis", d: `M${EDGE.left} ${EDGE.top}V${bottom}H${right}` });
    draw("text", svg, {
      class: "enh-axis-name", x: (EDGE.left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle",
    }, x);
    draw("text", svg, {
      class: "enh-axis-name", "text-anchor": "middle",
      transform: `translate(14 ${(EDGE.top + bottom) / 2}) rotate(-90)`,
    }, y);
  }

  function plot(across, up) {
    places = [];
    lines().forEach((line, index) => {
      const at = line.points.map(([x, y]) => [across.at(x), up.at(y)]);
      const group = draw("g", svg, { class: `enh-line-${line.kind}`, "data-line": index,
        style: `--enh-age: ${line.age ?? 0}` });
      draw("path", group, { d: at.map(([x, y], k) => `${k ? "L" : "M"}${x} ${y}`).join("") });
      at.forEach(([x, y], point) => {
        places.push({ line: index, point, x, y });
        if (line.kind === "known") {
          draw("rect", group, { x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
        } else draw("circle", group, { cx: x, cy: y, r: 2.6 });
      });
    });
    const [x, y] = model.get("current");
    if (x === undefined) return;
    const mark = draw("g", svg, { class: "enh-current",
      transform: `translate(${across.at(x)} ${up.at(y)})` });
    draw("circle", mark, { r: 7 });
    draw("circle", mark, { r: 2 });
  }

  function showFocus() {
    svg.querySelector(".enh-at")?.remove();
    const place = focus && places.find((p) => p.line === focus[0] && p.point === focus[1]);
    if (!place) return;
    draw("circle", svg, { class: "enh-at", cx: place.x, cy: place.y, r: 10 });
  }

  function say() {
    const line = focus && lines()[focus[0]];
    if (!line) { said.textContent = ""; return; }
    const [x, y] = line.points[focus[1]];
    const words = [line.label, line.texts[focus[1]]].filter(Boolean).join(", ");
    said.textContent = `${words}: ${model.get("x")} ${short(x)}, ${model.get("y")} ${short(y)}`;
  }

  function showLegend() {
    legend.replaceChildren();
    const kinds = [["current", "shown now", model.get("current").length],
      ["run", "runs of this photo", lines().some((line) => line.kind === "run")],
      ["known", lines().find((line) => line.kind === "known")?.label, true]];
    for (const [kind, text, there] of kinds) {
      if (!there || !text) continue;
      const entry = document.createElement("span");
      entry.className = `enh-entry enh-entry-${kind}`;
      entry.textContent = text;
      legend.append(entry);
    }
    note.textContent = model.get("note");
  }

  function show() {
    const width = Math.floor(root.clientWidth);
    if (width < 80) return;
    svg.setAttribute("width", width);
    svg.setAttribute("aria-label", `${model.get("y")} against ${model.get("x")}; `
      + `${lines().length} lines. Arrow keys walk along the points, Enter shows one.`);
    svg.replaceChildren();
    const current = model.get("current");
    const points = lines().flatMap((line) => line.points);
    if (current.length) points.push(current);
    showLegend();
    if (!points.length) return;
    const across = axis(points.map((p) => p[0]), EDGE.left, width - EDGE.right);
    const up = axis(points.map((p) => p[1]), HEIGHT - EDGE.bottom, EDGE.top);
    frame(across, up, width);
    plot(across, up);
    showFocus();
  }

  function take() {
    if (!focus) return;
    model.set("taken", [...focus]);
    model.save_changes();
  }

  function go(line, point) {
    const all = lines();
    if (!all.length) return;
    const which = Math.min(all.length - 1, Math.max(0, line));
    focus = [which, Math.min(all[which].points.length - 1, Math.max(0, point))];
    showFocus();
    say();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [line, point] = focus ?? [lines().length - 1, -1];
    const moves = {
      ArrowRight: [line, point + 1], ArrowLeft: [line, point - 1], Home: [line, 0],
      End: [line, Infinity], ArrowDown: [line - 1, point], ArrowUp: [line + 1, point],
    };
    if (event.key in moves) go(...moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") take();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function onClick(event) {
    const box = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = (p) => Math.hypot(p.x - x, p.y - y);
    const near = places.reduce((best, p) => (!best || far(p) < far(best) ? p : best), null);
    if (!near || far(near) > 24) return;
    go(near.line, near.point);
    take();
  }

  svg.addEventListener("keydown", onKey);
  svg.addEventListener("click", onClick);
  svg.addEventListener("blur", () => { focus = null; showFocus(); say(); });
  const names = ["x", "y", "lines", "current", "note"];
  let waiting = false;
  const soon = () => { // several traits change in one message
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => { waiting = false; show(); });
  };
  names.forEach((name) => model.on(`change:${name}`, soon));
  const observer = new ResizeObserver(show);
  observer.observe(root);
  show();
  return () => {
    names.forEach((name) => model.off(`change:${name}`, soon));
    observer.disconnect();
  };
}

export default { render };
