// Long lists: a page of the API at a time, more on request.

import { get, address } from "./api.js";
import { make } from "./elements.js";
import { busy } from "./errors.js";

/**
 * Items of a list go into `place`, each made by `show`. `empty` is shown where there are none.
 */
export async function listing(path, query, place, show, empty, limit = 60) {
  let cursor = null;
  const more = make("button", { type: "button", class: "more", onclick: () => busy(more, next) }, "Show more");
  const foot = make("div", { class: "foot" }, more);
  async function next() {
    const page = await get(address(path, { ...query, limit, cursor }));
    const first = page.items.map(show);
    place.append(...first);
    if (cursor) first[0]?.querySelector("a, button")?.focus(); // the button may be about to go
    cursor = page.next_cursor;
    foot.hidden = !cursor;
    return page.items.length;
  }
  const found = await next();
  return found ? [place, foot] : [empty];
}

/** What is said where there is nothing yet. */
export function nothing(title, ...words) {
  return make("div", { class: "nothing" }, make("h2", {}, title), make("p", {}, ...words));
}
