// How far a question is, stage by stage, as the server tells it.

import { get, post } from "./api.js";
import { fill, make } from "./elements.js";
import { busy } from "./errors.js";
import { follow } from "./events.js";
import { asked, ENDED } from "./format.js";
import { picture } from "./pictures.js";

const STAGES = {
  queued: "Waiting for a worker",
  loading: "Opening the model and its index",
  drawing: "Drawing the picture",
  features: "Watching the model draw it again",
  search: "Comparing with the training images",
};

/** Show a question at work until it ends; returns the ended attribution. */
export async function followed(attribution, path) {
  const names = Object.keys(STAGES).filter((name) => name !== "drawing" || attribution.request.prompt);
  const items = new Map(names.map((name) => [name, stage(STAGES[name])]));
  const said = make("p", { class: "unseen", role: "status" });
  const frame = make("div", { class: "at-work-picture" });
  const cancel = make("button", { type: "button", onclick: () => busy(cancel, () => post(`${path}/cancel`)) }, "Cancel");
  const attempt = make("p", { class: "quiet" });
  if (!attribution.request.prompt) frame.append(picture(attribution.urls.image, "The picture in question", "whole"));
  fill(
    make("h1", {}, asked(attribution)),
    make("div", { class: "at-work" }, frame,
      make("div", {}, make("ol", { class: "stages" }, [...items.values()].map(({ item }) => item)), attempt,
        make("p", {}, cancel), said)));

  let at = null;
  const stop = new AbortController();
  for await (const { data } of follow(attribution.urls.events, stop.signal)) {
    if (ENDED.has(data.status)) break;
    const now = data.status === "queued" ? "queued" : data.progress.stage ?? "loading";
    if (!items.has(now)) continue;
    attempt.textContent = data.attempt > 1 ? `Attempt ${data.attempt}: a worker was lost on the way.` : "";
    for (const name of names) items.get(name).set(place(names, name, now), name === now ? data.progress.fraction : null);
    if (now === at) continue;
    at = now;
    said.textContent = STAGES[now];
    if (now === "features" && !frame.firstChild) frame.append(picture(attribution.urls.image, "The picture that was drawn", "whole"));
  }
  return get(path);
}

function place(names, name, now) {
  const order = names.indexOf(name) - names.indexOf(now);
  return order < 0 ? "done" : order > 0 ? "ahead" : "now";
}

function stage(words) {
  const bar = make("progress", { max: 1, "aria-label": words });
  const item = make("li", { class: "ahead" }, make("span", {}, words), bar);
  function set(state, fraction) {
    item.className = state;
    if (state === "now") item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    bar.value = state === "done" ? 1 : fraction ?? 0;
  }
  set("ahead", 0);
  return { item, set };
}
