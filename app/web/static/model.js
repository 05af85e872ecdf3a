// One model: its indexes, how far builds are, and how well its answers were tested.

import { all, get, post, v1 } from "./api.js";
import { facts, fill, make } from "./elements.js";
import { busy, run, told } from "./errors.js";
import { number, when } from "./format.js";
import { poll } from "./polling.js";

const STAGES = { shards: "Reading the training images", finalise: "Working out the kernel", ready: "Ready" };

run(async () => {
  const id = decodeURIComponent(location.pathname.split("/")[2]);
  const [model, datasets] = await Promise.all([get(v1("models", id)), all("/v1/datasets")]);
  document.title = `${model.name} · Headwater`;
  const place = make("div", { class: "indexes" });
  const show = async () => {
    const indexes = (await all("/v1/indexes")).filter((index) => index.model === model.id);
    place.replaceChildren(...(indexes.length ? indexes.map((index) => card(index, datasets, show)) : [make("p", { class: "quiet" }, "None yet: build one to ask about this model.")]));
    return indexes.filter(({ state }) => state === "building");
  };
  const following = async () => {
    const building = await show();
    await Promise.all(building.map((index) => follow(index)));
    if (building.length) await show();
  };
  await show();
  fill(
    make("header", { class: "title" }, make("div", {}, make("h1", {}, model.name), make("p", { class: "quiet" }, `${model.pipeline_class}, registered ${when(model.created_at)}`))),
    make("section", { "aria-labelledby": "indexes" }, make("h2", { id: "indexes" }, "Indexes"), place, build(model, datasets, following)),
    make("section", { "aria-labelledby": "weights" }, make("h2", { id: "weights" }, "Weights"),
      facts([["Model", make("code", {}, model.digest)], ["CLIP", make("code", {}, model.clip_digest)]])));
  await following();
});

function card(index, datasets, show) {
  const dataset = datasets.find(({ id }) => id === index.dataset);
  const states = { ready: index.active ? ["succeeded", "Active"] : ["canceled", "Ready"], building: ["running", "Building"], failed: ["failed", "Failed"] };
  const [badge, words] = states[index.state];
  const change = (verb) => {
    const button = make("button", { type: "button", onclick: () => busy(button, async () => { await post(`${index.urls.self}/${verb}`); await show(); }) }, verb === "activate" ? "Make active" : "Deactivate");
    return button;
  };
  return make("article", { class: "index", id: index.id, "aria-labelledby": `name-${index.id}` },
    make("h3", { id: `name-${index.id}` }, make("a", { href: `/datasets/${index.dataset}` }, dataset?.name ?? index.dataset), make("span", { class: `badge ${badge}` }, words)),
    index.state === "building" && make("div", { class: "building" }, make("p", { role: "status" }, STAGES[index.progress.stage]), make("progress", { max: 1, value: index.progress.fraction, "aria-label": "Build" })),
    index.problem && told(index.problem),
    facts([
      ["Answers", index.methods.join(", ")],
      ["Made of", `${index.config.output}, ${index.config.timesteps} noise levels, ${number(index.config.projection_dim)} numbers an image, seed ${index.config.seed}`],
      ["Tested", tested(index.evidence)],
      ["Version", index.manifest_digest && make("code", {}, index.manifest_digest.slice(0, 16))],
      ["Since", when(index.ready_at ?? index.created_at)],
    ]),
    index.state === "ready" && make("div", { class: "buttons" }, change(index.active ? "deactivate" : "activate")));
}

function tested(evidence) {
  if (!evidence.length) return make("span", {}, "Not yet. ", make("code", {}, "headwater evaluate lds"), " says how far its scores can be trusted.");
  return evidence.map((row) => `${row.method} on ${row.query_set}: LDS ${(100 * row.lds).toFixed(1)} ± ${(100 * row.std_error).toFixed(1)} %`).join("; ");
}

async function follow(index) {
  await poll(async () => {
    const now = await get(index.urls.self);
    const place = document.getElementById(index.id);
    if (now.state !== "building" || !place) return true;
    place.querySelector("progress").value = now.progress.fraction;
    const words = place.querySelector("[role=status]");
    if (words.textContent !== STAGES[now.progress.stage]) words.textContent = STAGES[now.progress.stage];
    return false;
  });
}

function build(model, datasets, following) {
  if (!datasets.length) return null;
  const dataset = make("select", { id: "dataset" }, datasets.map(({ id, name }) => make("option", { value: id }, name)));
  const go = make("button", { type: "submit" }, "Build an index");
  const form = make("form", { class: "filters", onsubmit: (event) => {
    event.preventDefault();
    busy(go, async () => { await post("/v1/indexes", { model: model.id, dataset: dataset.value }); run(following); }, form);
  } }, make("label", { for: "dataset" }, "Trained on"), dataset, go);
  return form;
}
