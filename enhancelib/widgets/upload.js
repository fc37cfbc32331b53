// A button that hands one file to the kernel in parts.
// ipywidgets' FileUpload sends a file as one message; above 10 MB the server drops the connection.

const PART = 1 << 20;

async function send(model, file) {
  model.send({ kind: "file", name: file.name, size: file.size });
  if (file.size > model.get("most")) return; // the kernel answers with a sentence
  for (let at = 0; at < file.size; at += PART) {
    const part = await file.slice(at, at + PART).arrayBuffer();
    model.send({ kind: "part", at }, undefined, [new DataView(part)]);
  }
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "enh-upload";
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab would take Enter
  button.className = "jupyter-widgets jupyter-button widget-button";
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/*";
  input.hidden = true;
  root.append(button, input);
  el.append(root);

  const show = () => {
    button.textContent = model.get("label");
    button.title = model.get("label");
  };
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (!file) return;
    button.setAttribute("aria-busy", "true");
    try {
      await send(model, file);
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
  model.on("change:label", show);
  show();
  return () => model.off("change:label", show);
}

export default { render };
