// The creators of training images.

import { fill, make } from "./elements.js";
import { run } from "./errors.js";
import { count } from "./format.js";
import { listing, nothing } from "./listing.js";

run(async () => {
  const list = make("ul", { class: "rows" });
  const empty = nothing("No creator is known", "A dataset names its creators in metadata.jsonl.");
  fill(...(await listing("/v1/contributors", {}, list, row, empty, 100)));
});

function row({ creator, images, opted_out: opted, licences }) {
  return make("li", {}, make("a", { href: `/contributor?${new URLSearchParams({ creator })}` },
    make("span", { class: "name" }, creator),
    make("span", { class: "quiet" }, licences.join(", ") || "no licence"),
    make("span", { class: "quiet" }, count(images, "image")),
    opted > 0 && make("span", { class: "badge failed" }, `${opted} opted out`)));
}
