// Two pictures over one another with a movable divider. Plain ES module: no build step, no imports.

const ZOOMS = [["fit", "Fit"], ["1", "1:1"], ["2", "2:1"], ["4", "4:1"]];
const ARRANGEMENTS = [["divider", "Divider"], ["beside", "Side by side"]];
const GAP = 8; // CSS pixels between two pictures that stand beside each other
// Without it JupyterLab's own shortcuts take Enter and the arrow keys from what has the focus.
const OURS = { "data-lm-suppress-shortcuts": "true" };
const FIT_HEIGHT = 640; // CSS pixels; a view and its controls then stand in one window

function element(tag, className, parent, attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function build(el) {
  const root = element("figure", "enh-divider", el);
  const view = element("div", "enh-view", root);
  const frame = element("div", "enh-frame", view);
  const sides = ["before", "after"].map((name) => {
    const layer = element("div", `enh-layer enh-${name}`, frame);
    const image = element("img", "enh-image", layer, { draggable: "false", alt: "" });
    return { name, image, layer, label: element("span", "enh-label", layer) };
  });
  const handle = element("div", "enh-handle", frame, {
    role: "slider", tabindex: "0", "aria-label": "divider between the two pictures",
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-orientation": "horizontal", ...OURS,
  });
  element("div", "enh-knob", handle);
  element("div", "enh-busy", root, { "aria-hidden": "true" });
  const foot = element("div", "enh-foot", root);
  const caption = element("figcaption", "enh-caption", foot, { "aria-live": "polite" });
  const tools = element("div", "enh-tools", foot);
  const group = (name, label, choices) => {
    const box = element("div", "enh-zooms", tools, { role: "group", "aria-label": label });
    return choices.map(([value, text]) => {
      const button = element("button", "enh-zoom", box, { type: "button", [name]: value, ...OURS });
      button.textContent = text;
      return button;
    });
  };
  const ways = group("data-arrangement", "arrangement of the two pictures", ARRANGEMENTS);
  const buttons = group("data-zoom", "picture size", ZOOMS);
  const problem = element("p", "enh-problem", root, { role: "alert" });
  return { root, view, frame, sides, handle, caption, buttons, ways, problem };
}

async function decoded(bytes) {
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  const image = new Image();
  image.src = url;
  await image.decode();
  return { data: bytes, url, width: image.naturalWidth, height: image.naturalHeight };
}

function render({ model, el }) {
  const parts = build(el);
  const { root, view, frame, sides, handle, caption, buttons, ways, problem } = parts;
  const shown = sides.map(() => null); // per side: the bytes and the decoded picture
  let size = { width: 0, height: 0 };
  let asked = 0;
  let waiting = false;
  let position = model.get("position");

  function showPosition() {
    const [before, after] = model.get("labels");
    frame.style.setProperty("--enh-at", `${position}%`);
    handle.setAttribute("aria-valuenow", String(Math.round(position)));
    handle.setAttribute(
      "aria-valuetext",
      `${Math.round(position)} % ${before}, ${Math.round(100 - position)} % ${after}`,
    );
  }

  function showText() {
    const labels = model.get("labels");
    sides.forEach((side, index) => {
      side.label.textContent = labels[index];
      side.image.alt = labels[index];
    });
    caption.textContent = model.get("caption");
    problem.textContent = model.get("problem");
    root.toggleAttribute("data-busy", model.get("busy"));
    root.setAttribute("aria-busy", String(model.get("busy")));
  }

  function showSize() {
    if (!size.width) return;
    const zoom = model.get("zoom");
    const beside = model.get("arrangement") === "beside";
    const room = beside ? (view.clientWidth - GAP) / 2 : view.clientWidth;
    const most = Math.min(room / size.width, FIT_HEIGHT / size.height);
    const fit = most > 1 ? Math.floor(most) : most; // every pixel becomes an equal square
    const scale = zoom === "fit" ? fit : Number(zoom);
    const side = Math.floor(size.width * scale);
    frame.toggleAttribute("data-beside", beside);
    frame.style.setProperty("--enh-side", `${side}px`);
    frame.style.width = `${beside ? 2 * side + GAP : side}px`;
    frame.style.height = `${Math.floor(size.height * scale)}px`;
    // Enlarged pixels stay square; only a reduced picture may be smoothed.
    frame.style.setProperty("--enh-rendering", scale > 1 ? "pixelated" : "auto");
    buttons.forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.zoom === zoom)));
    const way = model.get("arrangement");
    ways.forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.arrangement === way)));
  }

  async function showPictures() {
    const ticket = ++asked;
    const bytes = sides.map((side) => model.get(side.name));
    const facts = JSON.stringify(model.get("facts"));
    if (bytes.some((data) => !data || !data.byteLength)) return;
    const fresh = await Promise.all(bytes.map((data, index) =>
      (shown[index]?.data === data ? shown[index] : decoded(data))));
    if (ticket !== asked) { // a newer pair came while this one was decoded
      fresh.forEach((picture, index) => {
        if (picture !== shown[index]) URL.revokeObjectURL(picture.url);
      });
      return;
    }
    fresh.forEach((picture, index) => {
      if (picture === shown[index]) return;
      sides[index].image.src = picture.url;
      if (shown[index]) URL.revokeObjectURL(shown[index].url);
      shown[index] = picture;
    });
    root.dataset.facts = facts;
    size = fresh[0];
    showSize();
  }

  function onPictures() { // one message may change both pictures: they are shown as one pair
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      showPictures();
    });
  }

  function move(to, { save }) {
    position = Math.min(100, Math.max(0, to));
    showPosition();
    if (save) {
      model.set("position", position);
      model.save_changes();
    }
  }

  function onKey(event) {
    const large = event.shiftKey ? 10 : 1;
    const steps = {
      ArrowLeft: -large, ArrowDown: -large, ArrowRight: large, ArrowUp: large,
      PageDown: -10, PageUp: 10, Home: -100, End: 100,
    };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    move(Math.round(position) + steps[event.key], { save: true });
  }

  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return (100 * (event.clientX - box.left)) / box.width;
  };
  function onDown(event) {
    if (event.button !== 0 || model.get("arrangement") === "beside") return;
    frame.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    move(at(event), { save: false });
    event.preventDefault();
  }
  function onMove(event) {
    if (frame.hasPointerCapture(event.pointerId)) move(at(event), { save: false });
  }
  function onUp(event) {
    if (frame.hasPointerCapture(event.pointerId)) move(at(event), { save: true });
  }

  handle.addEventListener("keydown", onKey);
  frame.addEventListener("pointerdown", onDown);
  frame.addEventListener("pointermove", onMove);
  frame.addEventListener("pointerup", onUp);
  buttons.forEach((button) => button.addEventListener("click", () => {
    model.set("zoom", button.dataset.zoom);
    model.save_changes();
  }));
  ways.forEach((button) => button.addEventListener("click", () => {
    model.set("arrangement", button.dataset.arrangement);
    model.save_changes();
  }));

  const onZoom = () => {
    showSize();
    view.scrollTo((view.scrollWidth - view.clientWidth) / 2,
      (view.scrollHeight - view.clientHeight) / 2);
  };
  const onPosition = () => { position = model.get("position"); showPosition(); };
  const onLabels = () => { showText(); showPosition(); };
  const listeners = {
    "change:before": onPictures, "change:after": onPictures, "change:facts": onPictures,
    "change:zoom": onZoom, "change:arrangement": onZoom,
    "change:position": onPosition, "change:labels": onLabels, "change:caption": showText,
    "change:problem": showText, "change:busy": showText,
  };
  for (const [event, call] of Object.entries(listeners)) model.on(event, call);
  // ipywidgets leaves the handles of its sliders without a name for screen readers, and its
  // controls to JupyterLab's shortcuts.
  function helpNeighbours() {
    const panel = el.closest(".enh-panel");
    panel?.querySelectorAll(".widget-slider").forEach((row) => {
      const label = row.querySelector(".widget-label")?.textContent;
      const handle = row.querySelector(".noUi-handle");
      if (label && handle) handle.setAttribute("aria-label", label);
    });
    panel?.querySelectorAll("button, select, input, .noUi-handle").forEach((control) => {
      for (const [name, value] of Object.entries(OURS)) control.setAttribute(name, value);
    });
  }
  const observer = new ResizeObserver(() => {
    helpNeighbours();
    showSize();
  });
  observer.observe(view);

  // The still that stands beside the live view for readers without a kernel would be a double here.
  const hide = element("style", "", document.head);
  const still = model.get("still");
  if (still) hide.textContent = `[data-enh-still="${CSS.escape(still)}"] { display: none; }`;

  showText();
  showPosition();
  showPictures();

  return () => {
    for (const [event, call] of Object.entries(listeners)) model.off(event, call);
    observer.disconnect();
    hide.remove();
    asked += 1;
    shown.forEach((picture) => picture && URL.revokeObjectURL(picture.url));
  };
}

export default { render };
