// The picture, and the part of it that a training image accounts for, lit up.

import { make, measure } from "./elements.js";
import { asked } from "./format.js";
import { picture } from "./pictures.js";

const EVENLY = 1.25; // times the mean: below, no part stands out

/** The picture of an answer; `light(regions, words)` lights a part of it, `rest()` all of it. */
export function litPicture(attribution, result) {
  const cells = result.contributors.find(({ regions }) => regions)?.regions.length ?? 0;
  const side = Math.round(Math.sqrt(cells));
  const veil = measure(make("div", { class: "veil", "aria-hidden": "true" }), { side });
  const squares = Array.from({ length: side * side }, () => make("span"));
  veil.append(...squares);
  const idle = cells ? "Point at a training image, or tab to it, to see the part that it accounts for." : "";
  const words = make("span", {}, idle);
  const figure = make("figure", { class: "asked-picture" },
    make("div", { class: "frame" }, picture(attribution.urls.image, `The picture in question: ${asked(attribution)}`, "whole"), veil),
    make("figcaption", { class: "quiet" }, words));
  return {
    figure,
    light(regions, name) {
      if (!regions) return;
      const brightest = Math.max(...regions, 1e-12);
      squares.forEach((square, i) => measure(square, { dark: (1 - regions[i] / brightest).toFixed(3) }));
      veil.classList.add("on");
      words.textContent = `${name}: ${where(regions)}`;
    },
    rest() {
      veil.classList.remove("on");
      words.textContent = idle;
    },
  };
}

/** In words which part of the picture stands out. */
export function where(regions) {
  const side = Math.round(Math.sqrt(regions.length));
  const brightest = Math.max(...regions);
  const mean = regions.reduce((sum, part) => sum + part, 0) / regions.length;
  if (side < 2 || brightest < EVENLY * mean) return "all over the picture";
  const cell = regions.indexOf(brightest);
  const vertical = third(Math.floor(cell / side), side, ["top", "middle", "bottom"]);
  const horizontal = third(cell % side, side, ["left", "centre", "right"]);
  return `most of all the ${vertical} ${horizontal}`.replace("middle centre", "centre");
}

function third(position, side, names) {
  return names[Math.min(2, Math.floor((3 * (position + 0.5)) / side))];
}
