// The training images behind a picture: those that made it, and apart those that worked against it.

import { sampleUrl } from "./api.js";
import { make, measure, unseen } from "./elements.js";
import { count, effect, percent, powerOfTen, unitOf } from "./format.js";
import { picture } from "./pictures.js";
import { where } from "./regions.js";

const CHUNK = 60; // a multiple of most numbers of columns

/** Both walls; what is pointed at lights its part of the picture. */
export function wall(result, dataset, lit) {
  const groups = folded(result.contributors, result.near_duplicates ?? []);
  const power = unitOf(result.contributors.map((row) => row.effect));
  const scale = { power, largest: Math.max(1e-300, ...result.contributors.map((row) => Math.abs(row.effect) + (row.std_error ?? 0))) };
  const unit = power ? ` Effects are in units of ${powerOfTen(power)}.` : "";
  const held = result.listed_share === undefined ? "" : ` Together the listed images hold ${percent(result.listed_share)} of the influence.`;
  const made = groups.filter(([first]) => first.effect >= 0);
  const against = groups.filter(([first]) => first.effect < 0);
  const context = { dataset, lit, scale };
  return make("div", {},
    made.length > 0 && section("made", "Most influential training images", `${sentence(result)}${held}${unit}`, made, context),
    against.length > 0 && section("against", "Working against this picture", "Without these, the model would draw it all the more like this.", against, context));
}

function sentence(result) {
  return `${count(result.contributors.length, "image")} of ${count(result.candidates.considered, "considered", "considered")}, by influence.`;
}

/** Groups of near-duplicates, each where its first image ranks. */
export function folded(contributors, duplicates) {
  const groupOf = new Map(duplicates.flatMap((keys, group) => keys.map((key) => [key, group])));
  const groups = [];
  const open = new Map();
  for (const row of contributors) {
    // An image that made the picture does not hide one that worked against it.
    const name = `${groupOf.get(row.key)} ${row.effect >= 0}`;
    if (groupOf.has(row.key) && open.has(name)) open.get(name).push(row);
    else {
      const group = [row];
      groups.push(group);
      if (groupOf.has(row.key)) open.set(name, group);
    }
  }
  return groups;
}

function section(id, title, words, groups, context) {
  const place = make("section", { class: "wall", "aria-labelledby": id }, make("h2", { id }, title), make("p", { class: "quiet" }, words));
  place.append(chunk(groups.slice(0, CHUNK), context));
  let next = CHUNK;
  const go = () => {
    place.append(chunk(groups.slice(next, next + CHUNK), context));
    next += CHUNK;
    if (next < groups.length) later(go);
  };
  if (next < groups.length) later(go);
  for (const [begin, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    place.addEventListener(begin, ({ target }) => {
      const row = rows.get(target.closest("[data-rank]"));
      if (row) context.lit.light(row.regions, name(row));
    });
    place.addEventListener(end, () => context.lit.rest());
  }
  return place;
}

const later = (go) => (globalThis.requestIdleCallback ?? setTimeout)(go);

/** What each card shows, so that one listener serves all of them. */
const rows = new WeakMap();

function chunk(groups, context) {
  return make("ul", { class: "cards" }, groups.map((group) => card(group, context)));
}

function card([first, ...alike], context) {
  const item = make("li", { class: "card" }, face(first, context));
  if (alike.length) {
    item.append(make("details", { class: "alike" },
      make("summary", {}, count(alike.length, "near-duplicate")),
      make("ul", {}, alike.map((row) => make("li", {}, face(row, context))))));
  }
  return item;
}

function face(row, { dataset, scale }) {
  const title = name(row);
  const thumbnail = dataset ? picture(sampleUrl(dataset, row.key, "thumbnail"), "") : make("span", { class: "thumbnail missing" });
  const inner = [
    make("span", { class: "shot" }, thumbnail, make("span", { class: "rank", "aria-hidden": "true" }, `${row.rank}`)),
    make("span", { class: "name" }, unseen(`Rank ${row.rank}: `), title),
  ];
  const link = dataset
    ? make("a", { href: `/sample?${new URLSearchParams({ dataset, key: row.key })}` }, ...inner)
    : make("span", { class: "no-link", tabindex: 0 }, ...inner);
  const element = make("div", { class: "face", "data-rank": row.rank },
    link,
    make("div", {},
      make("p", { class: "who" }, row.creator ?? "Creator unknown"),
      make("p", { class: "licence quiet" }, row.licence ?? "Licence unknown", row.opt_out && make("span", { class: "badge failed" }, "Opted out")),
      bar(row, scale),
      make("p", { class: "figures" },
        make("span", { class: row.effect < 0 ? "effect against" : "effect" }, unseen("Effect "), effect(row.effect, row.std_error, scale.power)),
        make("span", { class: "quiet" }, `CLIP ${row.clip_similarity.toFixed(2)}`)),
      row.regions && unseen(`Accounts for ${where(row.regions).replace("most of all", "most of all for")}.`)));
  rows.set(element, row);
  return element;
}

function bar({ effect: value, std_error: error }, { largest }) {
  const part = Math.abs(value) / largest;
  const spread = (error ?? 0) / largest;
  return measure(make("span", { class: value < 0 ? "bar against" : "bar", "aria-hidden": "true" }, make("i"), error > 0 && make("b")), {
    part, low: Math.max(0, part - spread), high: Math.min(1, part + spread),
  });
}

function name(row) {
  return row.text || row.key;
}
