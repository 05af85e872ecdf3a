// Files to keep. They are fetched with the key and handed to the browser from memory.

import { send } from "./api.js";
import { make } from "./elements.js";
import { busy } from "./errors.js";

/** A button that saves what `content` gives (a Blob) under a name. */
export function download(label, name, content) {
  const button = make("button", { type: "button", onclick: () => busy(button, async () => save(name, await content()), button.closest(".downloads")) }, label);
  return button;
}

export const fetched = (path) => async () => (await send(path)).blob();

export const written = (text, type) => async () => new Blob([text], { type });

function save(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
