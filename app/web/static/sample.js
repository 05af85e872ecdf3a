// One training image: whose it is, under which terms, and how to have it removed.

import { get, sampleUrl } from "./api.js";
import { facts, fill, make } from "./elements.js";
import { run } from "./errors.js";
import { picture } from "./pictures.js";
import { takedownButton } from "./takedown.js";

run(async () => {
  const query = new URLSearchParams(location.search);
  const sample = await get(sampleUrl(query.get("dataset") ?? "", query.get("key") ?? ""));
  const title = sample.text || sample.key;
  document.title = `${title} · Headwater`;
  fill(
    make("h1", {}, title),
    make("div", { class: "sample" },
      make("figure", { class: "frame" }, picture(sample.image, title, "whole")),
      make("div", {},
        facts([
          ["Creator", sample.creator ? make("a", { href: `/contributor?${new URLSearchParams({ creator: sample.creator })}` }, sample.creator) : "Unknown"],
          ["Licence", sample.licence ?? "Unknown"],
          ["Source", sample.source && outside(sample.source)],
          ["Creator’s page", sample.creator_uri && outside(sample.creator_uri)],
          ["Opted out of", sample.opt_out && Object.keys(sample.opt_out).join(", ")],
          ["Dataset", make("a", { href: `/datasets/${sample.dataset}` }, sample.dataset)],
          ["File", make("code", {}, sample.key)],
        ]),
        takedownButton("Take this image down", "this image", { dataset: sample.dataset, keys: [sample.key] }))));
});

/** A link only where it is one: what a dataset says may be anything. */
function outside(text) {
  return /^https?:\/\//.test(text) ? make("a", { href: text, rel: "noreferrer noopener" }, text) : text;
}
