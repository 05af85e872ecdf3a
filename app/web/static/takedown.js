// Taking images down, and what becomes of a takedown.

import { get, post, v1 } from "./api.js";
import { dialog } from "./dialogs.js";
import { make } from "./elements.js";
import { busy, told } from "./errors.js";
import { count, ENDED } from "./format.js";
import { poll } from "./polling.js";

/** A button that asks, then takes down; `wanted` is the API's body without a reason. */
export function takedownButton(label, what, wanted) {
  return make("button", { type: "button", class: "danger", onclick: () => confirm(what, wanted) }, label);
}

function confirm(what, wanted) {
  const reason = make("input", { id: "reason", type: "text", maxlength: 2000, autocomplete: "off", placeholder: "asked by the creator" });
  const go = make("button", { type: "submit", class: "danger" }, `Take down ${what}`);
  const form = make("form", {
    onsubmit: (event) => {
      event.preventDefault();
      busy(go, async () => {
        const takedown = await post("/v1/takedowns", { ...wanted, reason: reason.value });
        const state = make("div", {});
        form.replaceWith(state);
        await followed(takedown, state);
      });
    },
  },
  make("p", {}, "No answer names them from that moment on. Then they are removed from every index, from old answers, thumbnails and signed exports, and kept from coming back. Copies with the same content go too."),
  make("p", {}, make("strong", {}, "This cannot be undone.")),
  make("label", { for: "reason" }, "Reason (kept with the takedown)"), reason,
  make("div", { class: "buttons" }, go, make("button", { type: "button", class: "plain", onclick: () => asking.close() }, "Keep them")));
  const asking = dialog(`Take down ${what}?`, form);
  asking.addEventListener("close", () => { if (!form.isConnected && asking.dataset.done) location.reload(); });
}

async function followed(takedown, state) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Removing" });
  const words = make("p", { role: "status" }, `${count(takedown.images, "image")} masked. Removing what is left of them …`);
  state.replaceChildren(words, bar, make("div", { class: "buttons" }, closing(state)));
  state.closest("dialog").dataset.done = "yes";
  await poll(async () => {
    const now = await get(v1("takedowns", takedown.id));
    bar.value = now.progress.fraction;
    if (!ENDED.has(now.status)) return false;
    bar.hidden = true;
    words.textContent = now.status === "succeeded" ? `${count(now.images, "image")} taken down, from indexes, answers and exports.` : "The images are masked, but removing them has failed.";
    if (now.problem) state.append(told(now.problem));
    return true;
  });
}

function closing(state) {
  return make("button", { type: "button", class: "main", onclick: () => state.closest("dialog").close() }, "Close");
}
