// Copying to the clipboard, also where the page is not served securely and browsers offer no clipboard.

import { h, signal } from "../core/reactive.js";

const SHOWN_MS = 1600;

export async function copy(text) {
  if (navigator.clipboard && isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch {
      // refused: by selection, then
    }
  }
  const area = h("textarea.offscreen", { value: text, readonly: true, "aria-hidden": "true", tabindex: -1 });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let the page copy");
}

// A button that copies what `give` gives, and says that it has.
export function copyButton(give, label = "Copy", name = label) {
  const said = signal(null);
  const onclick = async () => {
    try {
      await copy(give());
      said.value = "Copied";
    } catch {
      said.value = "Not copied";
    }
    setTimeout(() => {
      said.value = null;
    }, SHOWN_MS);
  };
  return h("button.quiet.copy", { type: "button", onclick, "aria-label": name }, () => said.value ?? label);
}
