// One question: while it is worked on, when it has gone wrong, and its answer.

import { get, post, v1 } from "./api.js";
import { dialog } from "./dialogs.js";
import { fill, make } from "./elements.js";
import { busy, run, told } from "./errors.js";
import { asked, ENDED, STATUS, when } from "./format.js";
import { followed } from "./progress.js";
import { shown } from "./answer_parts.js";

const id = decodeURIComponent(location.pathname.split("/")[2]);
const path = v1("attributions", id);

run(async () => {
  let attribution = await get(path);
  if (!ENDED.has(attribution.status)) {
    const ended = await followed(attribution, path);
    attribution = ended ?? (await get(path));
  }
  document.title = `${asked(attribution)} · Headwater`;
  if (attribution.status === "succeeded") fill(await shown(attribution, head(attribution)));
  else fill(head(attribution), unanswered(attribution));
});

function head(attribution) {
  const remove = make("button", { type: "button", class: "plain", onclick: confirmDeletion }, "Delete");
  return make("header", { class: "title" },
    make("div", {},
      make("h1", {}, asked(attribution)),
      make("p", { class: "quiet" }, `${STATUS[attribution.status]} ${when(attribution.finished_at ?? attribution.created_at)}`)),
    remove);
}

function unanswered(attribution) {
  const words = {
    canceled: "It was canceled before there was an answer.",
    expired: "It was not answered within the time that was given.",
  };
  const why = attribution.problem ? told(attribution.problem) : make("p", {}, words[attribution.status] ?? "There is no answer.");
  return make("div", {}, why, make("p", {}, make("a", { class: "button", href: "/" }, "Ask again")));
}

function confirmDeletion() {
  const remove = make("button", { type: "button", class: "danger", onclick: () => busy(remove, async () => {
    await post(path, undefined, { method: "DELETE" });
    location.assign("/answers");
  }) }, "Delete for good");
  const asking = dialog("Delete this answer?",
    make("p", {}, "Question, picture and answer are forgotten. This cannot be undone."),
    make("div", { class: "buttons" }, remove, make("button", { type: "button", class: "plain", onclick: () => asking.close() }, "Keep it")));
}
