// Shares of the influence by creator or licence, with their errors.

import { make, measure } from "./elements.js";
import { count, number, percent, share } from "./format.js";

const AT_ONCE = 6;
const TITLES = { creator: "By creator", licence: "By licence" };

/** A table of owners; many fold away behind the first. */
export function rollUp(kind, rows) {
  const first = rows.length > AT_ONCE + 1 ? rows.slice(0, AT_ONCE) : rows;
  const others = rows.slice(first.length);
  return make("div", { class: "rollup" },
    table(kind, first, TITLES[kind]),
    others.length > 0 && make("details", {},
      make("summary", {}, `${number(others.length)} more, together ${percent(others.reduce((sum, row) => sum + row.share, 0))}`),
      table(kind, others, `${TITLES[kind]}: the others`)));
}

function table(kind, rows, title) {
  return make("table", {},
    make("caption", {}, title),
    make("thead", { class: "unseen" }, make("tr", {}, [TITLES[kind].slice(3), "share of the influence", "training images"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows.map((row) => owner(kind, row))));
}

function owner(kind, row) {
  const name = row[kind];
  const known = kind === "creator" && name !== "unknown";
  const error = row.std_error ?? 0;
  const bar = measure(make("span", { class: "bar", "aria-hidden": "true" }, make("i"), row.std_error > 0 && make("b")), {
    part: row.share, low: Math.max(0, row.share - error), high: Math.min(1, row.share + error),
  });
  return make("tr", {},
    make("th", { scope: "row" }, known ? make("a", { href: `/contributor?${new URLSearchParams({ creator: name })}` }, name) : name),
    make("td", { class: "figure" }, share(row.share, row.std_error), bar),
    make("td", { class: "quiet" }, count(row.images, "image")));
}
