// The datasets, and takedowns.

import { all, get } from "./api.js";
import { fill, make } from "./elements.js";
import { run } from "./errors.js";
import { count, when } from "./format.js";
import { nothing } from "./listing.js";

run(async () => {
  const [datasets, { items: takedowns }] = await Promise.all([all("/v1/datasets"), get("/v1/takedowns?limit=20")]);
  const names = new Map(datasets.map(({ id, name }) => [id, name]));
  fill(
    datasets.length
      ? make("ul", { class: "rows" }, datasets.map(row))
      : nothing("No dataset yet", "Register one with ", make("code", {}, "headwater index --model DIR --clip DIR --data DIR"), "."),
    takedowns.length > 0 && make("section", { "aria-labelledby": "takedowns" },
      make("h2", { id: "takedowns" }, "Takedowns"),
      make("ul", { class: "rows" }, takedowns.map((taken) => takedown(taken, names)))));
});

function row(dataset) {
  return make("li", {}, make("a", { href: `/datasets/${dataset.id}` },
    make("span", { class: "name" }, dataset.name),
    make("span", { class: "quiet" }, count(dataset.sample_count, "image")),
    make("time", { class: "quiet", datetime: dataset.created_at }, when(dataset.created_at))));
}

function takedown({ dataset, images, reason, status, created_at: at }, names) {
  const states = { succeeded: "Removed", failed: "Removal failed", queued: "Masked", running: "Being removed" };
  return make("li", {}, make("div", {},
    make("span", { class: "name" }, `${count(images, "image")} of ${names.get(dataset) ?? dataset}`),
    make("span", { class: "quiet" }, reason || "no reason given"),
    make("span", { class: `badge ${status}` }, states[status] ?? status),
    make("time", { class: "quiet", datetime: at }, when(at))));
}
