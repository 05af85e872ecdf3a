// Training images of the catalogue as a grid.

import { make } from "./elements.js";
import { picture } from "./pictures.js";

/** One image of a grid. */
export function tile(sample) {
  return make("li", { class: "tile" },
    make("a", { href: `/sample?${new URLSearchParams({ dataset: sample.dataset, key: sample.key })}` },
      make("span", { class: "shot" }, picture(sample.thumbnail, "")),
      make("span", { class: "name" }, sample.text || sample.key)),
    sample.opt_out && make("span", { class: "badge failed" }, "Opted out"));
}

export const grid = () => make("ul", { class: "tiles" });
