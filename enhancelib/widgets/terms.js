// The terms of an objective: weights to move, and what they contribute. Plain ES module.

// Without it JupyterLab's own shortcuts take Enter and the arrow keys from what has the focus.
const OURS = { "data-lm-suppress-shortcuts": "true" };
const HEADS = [
  ["term", "enh-name"], ["weight", "enh-weight"], ["value", "enh-number"],
  ["weighted", "enh-number"], ["share of\n|weighted value|", "enh-share"],
  ["share of\ngradient norm", "enh-share"],
];

function element(tag, className, parent, attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

// Four digits; very large and very small numbers with an exponent.
function text(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e5) return number.toExponential(2).replace("e+", "e");
  return String(Number(number.toPrecision(4)));
}

function nearest(stops, value) {
  let best = 0;
  stops.forEach((stop, index) => {
    if (Math.abs(stop - value) < Math.abs(stops[best] - value)) best = index;
  });
  return best;
}

function buildRow(body, name, act) {
  const row = element("tr", "enh-term", body, { "data-term": name });
  const head = element("th", "enh-name", row, { scope: "row" });
  const title = element("button", "enh-pick", head, {
    type: "button", title: `show the gradient of ${name} alone`, ...OURS,
  });
  title.textContent = name;
  const weight = element("td", "enh-weight", row);
  const both = element("div", "enh-both", weight);
  const slider = element("input", "enh-slide", both, {
    type: "range", min: "0", step: "1", "aria-label": `weight of ${name}`, ...OURS,
  });
  const box = element("input", "enh-exact", both, {
    type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false",
    "aria-label": `weight of ${name}, exact`, ...OURS,
  });
  const value = element("td", "enh-number", row, { "data-cell": "value" });
  const weighted = element("td", "enh-number", row, { "data-cell": "weighted" });
  const bars = ["of_value", "of_gradient"].map((key) => {
    const cell = element("td", "enh-share", row, { "data-cell": key });
    const track = element("div", "enh-track", cell);
    return { bar: element("div", `enh-bar enh-${key}`, track),
      label: element("span", "enh-percent", track) };
  });
  title.addEventListener("click", () => act.pick(name));
  slider.addEventListener("input", () => act.slide(name, Number(slider.value)));
  box.addEventListener("change", () => act.type(name, box));
  box.addEventListener("keydown", (event) => { // not every browser makes it a change
    if (event.key !== "Enter") return;
    act.type(name, box);
    event.preventDefault();
    event.stopPropagation();
  });
  return { title, slider, box, value, weighted, bars };
}

function render({ model, el }) {
  const root = element("div", "enh-terms", el);
  const table = element("table", "enh-table", root);
  const heads = element("tr", "", element("thead", "", table));
  HEADS.forEach(([title, style]) => {
    element("th", style, heads, { scope: "col" }).textContent = title;
  });
  const body = element("tbody", "", table);
  const foot = element("tr", "enh-total", element("tfoot", "", table));
  element("th", "enh-name", foot, { scope: "row" }).textContent = "total";
  element("td", "enh-weight", foot);
  element("td", "enh-number", foot);
  const sum = element("td", "enh-number", foot, { "data-cell": "total" });
  element("td", "enh-share", foot);
  const norm = element("td", "enh-share", foot, { "data-cell": "norm" });

  function set(name, value) {
    model.set("weights", { ...model.get("weights"), [name]: value });
    model.save_changes();
  }
  const act = {
    slide(name, index) { set(name, model.get("stops")[name][index]); },
    type(name, box) {
      const typed = box.value.trim() === "" ? NaN : Number(box.value.replace(",", "."));
      box.setAttribute("aria-invalid", String(!Number.isFinite(typed)));
      if (Number.isFinite(typed)) set(name, typed);
    },
    pick(name) {
      model.set("chosen", model.get("chosen") === name ? "" : name);
      model.save_changes();
    },
  };
  let rows = {};

  function showNames() {
    body.replaceChildren();
    rows = Object.fromEntries(model.get("names").map((name) => [name, buildRow(body, name, act)]));
  }

  function showWeights() {
    const [weights, stops] = [model.get("weights"), model.get("stops")];
    for (const [name, row] of Object.entries(rows)) {
      const value = weights[name];
      const index = String(nearest(stops[name], value));
      row.slider.max = String(stops[name].length - 1);
      if (row.slider.value !== index) row.slider.value = index;
      row.slider.setAttribute("aria-valuetext", text(value));
      row.slider.style.setProperty("--enh-fill", `${(100 * index) / row.slider.max}%`);
      row.slider.toggleAttribute("data-off", value === 0);
      if (document.activeElement !== row.box || Number(row.box.value) !== value) {
        row.box.value = String(value);
      }
      row.box.setAttribute("aria-invalid", "false");
    }
  }

  function showShares() {
    const [found, total] = [model.get("rows"), model.get("total")];
    root.toggleAttribute("data-pending", model.get("pending"));
    root.setAttribute("aria-busy", String(model.get("pending")));
    Object.values(rows).forEach((row, index) => {
      const share = found[index] ?? {};
      row.value.textContent = text(share.value);
      row.weighted.textContent = text(share.weighted);
      [share.of_value, share.of_gradient].forEach((part, which) => {
        const known = part !== null && part !== undefined;
        row.bars[which].bar.style.width = known ? `${100 * part}%` : "0";
        row.bars[which].label.textContent = known ? `${(100 * part).toFixed(1)} %` : "–";
      });
    });
    sum.textContent = text(total.value);
    norm.textContent = `‖g‖ = ${text(total.gradient)}`;
  }

  function showChosen() {
    for (const [name, row] of Object.entries(rows)) {
      row.title.setAttribute("aria-pressed", String(model.get("chosen") === name));
    }
  }

  const all = () => { showNames(); showWeights(); showShares(); showChosen(); };
  const listeners = {
    "change:names": all, "change:stops": showWeights, "change:weights": showWeights,
    "change:rows": showShares, "change:total": showShares, "change:pending": showShares,
    "change:chosen": showChosen,
  };
  for (const [event, call] of Object.entries(listeners)) model.on(event, call);
  all();
  return () => {
    for (const [event, call] of Object.entries(listeners)) model.off(event, call);
  };
}

export default { render };
