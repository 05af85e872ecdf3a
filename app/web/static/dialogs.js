// Asking before something is done that cannot be undone.

import { make } from "./elements.js";

/** A modal dialog of these children; `close` takes it away, and Escape does too. */
export function dialog(title, ...children) {
  const element = make("dialog", { "aria-labelledby": "dialog-title" }, make("h2", { id: "dialog-title" }, title), ...children);
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}
