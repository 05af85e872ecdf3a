// The latest answers, beside the question.

import { address, get } from "./api.js";
import { make } from "./elements.js";
import { asked } from "./format.js";
import { currentKey, needsKey } from "./key.js";
import { picture } from "./pictures.js";

const SHOWN = 5;

/** Fill a place with some answers; without a key nobody is asked for one. */
export async function lately(place) {
  if (needsKey && !currentKey()) return;
  const { items } = await get(address("/v1/attributions", { status: "succeeded", limit: SHOWN })).catch(() => ({ items: [] }));
  if (!items.length) return;
  place.append(make("h2", {}, "Asked lately"), make("ul", {}, items.map((attribution) => make("li", {},
    make("a", { href: `/answers/${attribution.id}` },
      make("span", { class: "shot" }, picture(attribution.urls.image, "")),
      asked(attribution),
      make("span", { class: "quiet" }, attribution.result.by_creator[0]?.creator ?? ""))))));
}
