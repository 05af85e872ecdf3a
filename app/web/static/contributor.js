// One creator: where did my pictures go?

import { all, get, address } from "./api.js";
import { fill, make } from "./elements.js";
import { busy, run } from "./errors.js";
import { asked, count, percent, share } from "./format.js";
import { listing, nothing } from "./listing.js";
import { picture } from "./pictures.js";
import { grid, tile } from "./samples.js";
import { takedownButton } from "./takedown.js";

const LOOKED_AT = 50;

run(async () => {
  const creator = new URLSearchParams(location.search).get("creator") ?? "";
  const [found, datasets, models, indexes] = await Promise.all([
    mine(creator), all("/v1/datasets"), all("/v1/models"), all("/v1/indexes")]);
  document.title = `${creator} · Headwater`;
  const images = await listing("/v1/samples", { creator }, grid(), tile, nothing("No image", "None of this creator is in any dataset, or they were all taken down."));
  fill(
    make("header", { class: "title" }, make("div", {}, make("h1", {}, creator), make("p", { class: "lead" }, "Where these pictures went."))),
    make("section", { "aria-labelledby": "trained" },
      make("h2", { id: "trained" }, "Where they were trained on"),
      found.length ? make("ul", { class: "rows" }, found.map((id) => trained(id, creator, datasets, models, indexes))) : make("p", { class: "quiet" }, "None.")),
    await answers(creator),
    make("section", { "aria-labelledby": "images" }, make("h2", { id: "images" }, "The pictures"), ...images));
});

/** The ids of the datasets that hold images of a creator. */
async function mine(creator) {
  const { items } = await get(address("/v1/contributors", { creator }));
  return items[0]?.datasets ?? [];
}

function trained(id, creator, datasets, models, indexes) {
  const dataset = datasets.find((row) => row.id === id);
  const names = new Set(indexes.filter((index) => index.dataset === id && index.state === "ready").map(({ model }) => model));
  const links = models.filter((model) => names.has(model.id)).flatMap((model, i) => [i ? ", " : "", make("a", { href: `/models/${model.id}` }, model.name)]);
  return make("li", {}, make("div", {},
    make("span", { class: "name" }, "Dataset ", make("a", { href: `/datasets/${id}` }, dataset?.name ?? id)),
    make("span", { class: "quiet" }, ...(links.length ? ["indexed for ", ...links] : ["in no index"])),
    takedownButton("Take all down", `all images of ${creator} in ${dataset?.name ?? id}`, { dataset: id, creator })));
}

/** The answers that name the creator, among the latest; further back on request. */
async function answers(creator) {
  const list = make("ul", { class: "jobs" });
  const said = make("p", { class: "quiet", role: "status" });
  let cursor = null;
  let looked = 0;
  let named = 0;
  async function look() {
    const page = await get(address("/v1/attributions", { status: "succeeded", limit: LOOKED_AT, cursor }));
    for (const attribution of page.items) {
      const row = attribution.result.by_creator.find((owner) => owner.creator === creator && owner.share > 0);
      if (!row) continue;
      named += 1;
      list.append(answer(attribution, row));
    }
    looked += page.items.length;
    cursor = page.next_cursor;
    said.textContent = looked ? `Named in ${named} of the latest ${count(looked, "answer")}.` : "There is no answer yet.";
    further.hidden = !cursor;
  }
  const further = make("button", { type: "button", onclick: () => busy(further, look) }, "Look further back");
  await look();
  return make("section", { "aria-labelledby": "answers" }, make("h2", { id: "answers" }, "Pictures that owe them something"), said, list, further);
}

function answer(attribution, row) {
  return make("li", {}, make("a", { class: "short", href: `/answers/${attribution.id}` },
    picture(attribution.urls.image, ""),
    make("span", { class: "name" }, asked(attribution)),
    make("span", { class: "quiet" }, `${share(row.share, row.std_error)} of the influence`)));
}
