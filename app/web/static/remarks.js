// What to know before an answer is relied on.

import { make } from "./elements.js";
import { count, percent } from "./format.js";

const KINDS = {
  "share-alike": "Share alike",
  "non-commercial": "Non-commercial",
  "no-derivatives": "No derivatives",
  "unknown-licence": "Licence unknown",
  "unlisted-licence": "A licence of its own",
  "opt-out": "Opted out",
};

/** Conditions of licences, what cannot be told apart, and what is gone. */
export function remarks(result) {
  const items = [...(result.licence_conflicts ?? []).map(conflict), unattributed(result), redacted(result)].filter(Boolean);
  if (!items.length) return null;
  return make("section", { class: "remarks", "aria-labelledby": "remarks" },
    make("h2", { id: "remarks" }, "Worth knowing"), make("ul", {}, items));
}

function conflict({ kind, licences, share, images, why }) {
  return make("li", { class: "conflict" },
    make("strong", {}, KINDS[kind] ?? kind),
    make("span", {}, `${percent(share)} of the influence, ${count(images, "image")}`, licences.length ? ` under ${licences.join(", ")}` : "", `: ${why}.`));
}

function unattributed({ unattributed_share: part }) {
  if (part === null || part === undefined) return null;
  return make("li", {},
    make("strong", {}, "Nobody’s in particular"),
    make("span", {}, `${percent(part)} of the influence is held by images whose own effect is within two standard errors of none. It is there, and there is no telling whose it is.`));
}

function redacted({ redacted: images }) {
  if (!images) return null;
  return make("li", {}, make("strong", {}, "Taken down since"), make("span", {}, `${count(images, "listed image")} ${images === 1 ? "is" : "are"} no longer named here.`));
}
