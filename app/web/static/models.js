// The models that can be asked about.

import { all } from "./api.js";
import { fill, make } from "./elements.js";
import { run } from "./errors.js";
import { count } from "./format.js";
import { nothing } from "./listing.js";

run(async () => {
  const [models, indexes] = await Promise.all([all("/v1/models"), all("/v1/indexes")]);
  fill(models.length
    ? make("ul", { class: "rows" }, models.map((model) => row(model, indexes.filter((index) => index.model === model.id))))
    : nothing("No model yet", "Register one with ", make("code", {}, "headwater index --model DIR --clip DIR --data DIR"), "."));
});

function row(model, indexes) {
  const building = indexes.some(({ state }) => state === "building");
  const active = indexes.some((index) => index.active);
  const [state, words] = building ? ["running", "Being indexed"] : active ? ["succeeded", "Answers questions"] : ["canceled", "No active index"];
  return make("li", {}, make("a", { href: `/models/${model.id}` },
    make("span", { class: "name" }, model.name),
    make("span", { class: "quiet" }, model.pipeline_class),
    make("span", { class: "quiet" }, count(indexes.length, "index", "indexes")),
    make("span", { class: `badge ${state}` }, words)));
}
