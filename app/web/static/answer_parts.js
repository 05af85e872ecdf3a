// An answer, from the picture to what it rests on.

import { get, v1 } from "./api.js";
import { basis } from "./basis.js";
import { asCsv } from "./csv.js";
import { download, fetched, written } from "./downloads.js";
import { make } from "./elements.js";
import { percent } from "./format.js";
import { litPicture } from "./regions.js";
import { remarks } from "./remarks.js";
import { rollUp } from "./rollups.js";
import { wall } from "./wall.js";

/** The answer's elements; `head` goes on top. */
export async function shown(attribution, head) {
  const { result } = attribution;
  // Without the right to look into the catalogue, names and figures are still shown.
  const index = await get(v1("indexes", attribution.index)).catch(() => null);
  const lit = litPicture(attribution, result);
  const images = wall(result, index?.dataset ?? null, lit);
  return [
    head,
    make("div", { class: "answer" },
      make("aside", { "aria-label": "The picture" }, lit.figure),
      make("div", { class: "findings" },
        headline(result),
        make("section", { class: "whose", "aria-label": "Whose influence it is" }, rollUp("creator", result.by_creator), rollUp("licence", result.by_licence)),
        remarks(result),
        images,
        basis(attribution, index),
        downloads(attribution))),
  ];
}

function headline(result) {
  const [first, second] = result.by_creator;
  if (!first) return make("p", { class: "headline" }, "No training image is left to name.");
  const close = second && first.std_error !== null && first.share - second.share < 2 * Math.hypot(first.std_error, second.std_error);
  const words = close
    ? [make("strong", {}, first.creator), " and ", make("strong", {}, second.creator), " are too close to call."]
    : [make("strong", {}, first.creator), ` holds ${percent(first.share)} of the influence on this picture.`];
  return make("p", { class: "headline" }, ...words, " ", make("span", { class: "statement" }, `${result.statement}.`));
}

function downloads(attribution) {
  const { id, urls, result } = attribution;
  return make("section", { class: "downloads", "aria-labelledby": "take-along" },
    make("h2", { id: "take-along" }, "Take it along"),
    make("div", { class: "buttons" },
      download("JSON", `${id}.json`, written(JSON.stringify(attribution, null, 2), "application/json")),
      download("CSV", `${id}.csv`, written(asCsv(result.contributors), "text/csv")),
      download("C2PA picture", `${id}.png`, fetched(urls.c2pa)),
      download("C2PA manifest", `${id}.c2pa`, fetched(`${urls.c2pa}?form=sidecar`)),
      download("PROV", `${id}.jsonld`, fetched(urls.prov)),
      download("Receipt", `${id}.receipt.json`, fetched(urls.receipt))),
    make("p", { class: "hint" }, "From the receipt, ", make("code", {}, "headwater verify"), " computes the answer again."));
}
