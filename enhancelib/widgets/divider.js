// Two pictures over one another with a movable divider. Plain ES module: no build step, no imports.

const ZOOMS = [["fit", "Fit"], ["1", "1:1"], ["2", "2:1"], ["4", "4:1"]];
const FIT_HEIGHT = 640; // CSS pixels; a view and its controls then stand in one window

function element(tag, className, parent, attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function build(el) {
  // Without the attribute JupyterLab's own shortcuts take the arrow keys in command mode.
  const root = element("figure", "enh-divider", el, { "data-lm-suppress-shortcuts": "true" });
  const view = element("div", "enh-view", root);
  const frame = element("div", "enh-frame", view);
  const sides = ["before", "after"].map((name) => {
    const layer = element("div", `enh-layer enh-${name}`, frame);
    const image = element("img", "enh-image", layer, { draggable: "false", alt: "" });
    return { name, image, layer, label: element("span", "enh-label", layer) };
  });
  const handle = element("div", "enh-handle", frame, {
    role: "slider", tabindex: "0", "aria-label": "divider between the two pictures",
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-orientation": "horizontal",
  });
  element("div", "enh-knob", handle);
  element("div", "enh-busy", root, { "aria-hidden": "true" });
  const foot = element("div", "enh-foot", root);
  const caption = element("figcaption", "enh-caption", foot, { "aria-live": "polite" });
  const zooms = element("div", "enh-zooms", foot, { role: "group", "aria-label": "picture size" });
  const buttons = ZOOMS.map(([value, text]) => {
    const button = element("button", "enh-zoom", zooms, { type: "button", "data-zoom": value });
    button.textContent = text;
    return button;
  });
  const problem = element("p", "enh-problem", root, { role: "alert" });
  return { root, view, frame, sides, handle, caption, buttons, problem };
}

async function decoded(bytes) {
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  const image = new Image();
  image.src = url;
  await image.decode();
  return { url, width: image.naturalWidth, height: image.naturalHeight };
}

function render({ model, el }) {
  const parts = build(el);
  const { root, view, frame, sides, handle, caption, buttons, problem } = parts;
  let size = { width: 0, height: 0 };
  let urls = [];
  let asked = 0;
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
    const room = view.clientWidth;
    const most = Math.min(room / size.width, FIT_HEIGHT / size.height);
    const fit = most > 1 ? Math.floor(most) : most; // every pixel becomes an equal square
    const scale = zoom === "fit" ? fit : Number(zoom);
    frame.style.width = `${Math.floor(size.width * scale)}px`;
    frame.style.height = `${Math.floor(size.height * scale)}px`;
    // Enlarged pixels stay square; only a reduced picture may be smoothed.
    frame.style.setProperty("--enh-rendering", scale > 1 ? "pixelated" : "auto");
    buttons.forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.zoom === zoom)));
  }

  async function showPictures() {
    const ticket = ++asked;
    const bytes = sides.map((side) => model.get(side.name));
    if (bytes.some((data) => !data || !data.byteLength)) return;
    const pictures = await Promise.all(bytes.map(decoded));
    if (ticket !== asked) { // a newer pair came while this one was decoded
      pictures.forEach(({ url }) => URL.revokeObjectURL(url));
      return;
    }
    const old = urls;
    urls = pictures.map(({ url }) => url);
    size = pictures[0];
    sides.forEach((side, index) => { side.image.src = urls[index]; });
    showSize();
    old.forEach((url) => URL.revokeObjectURL(url));
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
    if (event.button !== 0) return;
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

  const onZoom = () => {
    showSize();
    view.scrollTo((view.scrollWidth - view.clientWidth) / 2,
      (view.scrollHeight - view.clientHeight) / 2);
  };
  const onPosition = () => { position = model.get("position"); showPosition(); };
  const onLabels = () => { showText(); showPosition(); };
  const listeners = {
    "change:before": showPictures, "change:after": showPictures, "change:zoom": onZoom,
    "change:position": onPosition, "change:labels": onLabels, "change:caption": showText,
    "change:problem": showText, "change:busy": showText,
  };
  for (const [event, call] of Object.entries(listeners)) model.on(event, call);
  const observer = new ResizeObserver(showSize);
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
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
