// The API key, where the installation asks for one. It stays in this tab's session storage and goes
// out in a header: never into an address, a cookie or a log.

import { make } from "./elements.js";

const NAME = "headwater-key";

export const needsKey = document.documentElement.dataset.access === "keys";

export const currentKey = () => (needsKey ? sessionStorage.getItem(NAME) : null);

let asking = null;

/** Let the person enter a key; `why` says what was wrong with the last one. Resolves to whether there is one. */
export function askForKey(why = "") {
  asking ??= new Promise((resolve) => {
    const field = make("input", {
      id: "key-field", type: "password", autocomplete: "off", spellcheck: "false", required: true,
      "aria-describedby": "key-why", value: "",
    });
    const forget = make("button", { type: "button", class: "plain", onclick: () => close(clear()) }, "Forget the key");
    const dialog = make(
      "dialog", { "aria-labelledby": "key-title" },
      make(
        "form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); close(keep(field.value)); } },
        make("h2", { id: "key-title" }, "API key"),
        make("p", { id: "key-why", class: why ? "problem" : "quiet" }, why || "This installation shows each tenant its own answers. The key stays in this tab and is gone when you close it."),
        make("label", { for: "key-field" }, "Key"), field,
        make("div", { class: "buttons" },
          make("button", { type: "submit", class: "main" }, "Use this key"),
          make("button", { type: "button", class: "plain", onclick: () => close(false) }, "Not now"),
          currentKey() ? forget : null),
      ),
    );
    function close(changed) {
      dialog.close();
      dialog.remove();
      asking = null;
      resolve(changed);
    }
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(false); });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

function keep(text) {
  const key = text.trim();
  if (key) sessionStorage.setItem(NAME, key);
  return Boolean(key);
}

function clear() {
  sessionStorage.removeItem(NAME);
  return true;
}

document.getElementById("key")?.addEventListener("click", async () => {
  if (await askForKey()) location.reload();
});
