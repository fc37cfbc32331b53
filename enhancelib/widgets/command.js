// A line of text with a button that copies it. Plain ES module.

async function copied(text, line) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // no clipboard without a secure page or a permission: select, and try the old way
    const range = document.createRange();
    range.selectNodeContents(line);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "enh-copy";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-widgets jupyter-button widget-button";
  const line = document.createElement("code");
  line.className = "enh-line";
  line.tabIndex = 0;
  line.setAttribute("role", "textbox");
  line.setAttribute("aria-readonly", "true");
  const said = document.createElement("span");
  said.className = "enh-said";
  said.setAttribute("role", "status");
  for (const part of [button, line]) { // JupyterLab's own shortcuts would take Enter
    part.setAttribute("data-lm-suppress-shortcuts", "true");
  }
  root.append(button, said, line);
  el.append(root);

  const show = () => {
    button.textContent = model.get("label");
    line.textContent = model.get("text");
    line.setAttribute("aria-label", model.get("label"));
    said.textContent = "";
  };
  button.addEventListener("click", async () => {
    const done = await copied(model.get("text"), line);
    said.textContent = done ? "copied" : "selected: press Ctrl+C";
  });
  const events = ["change:label", "change:text"];
  events.forEach((event) => model.on(event, show));
  show();
  return () => events.forEach((event) => model.off(event, show));
}

export default { render };
