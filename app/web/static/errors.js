// What went wrong, where a person can read it.

import { Problem } from "./api.js";
import { fill, make } from "./elements.js";

/** A problem's title and detail, and when to try again. */
export function told(problem) {
  const known = problem.title ? problem : { title: "Something went wrong on this page", detail: problem.message };
  const wait = known.retryAfter ? `Try again in ${known.retryAfter} s.` : null;
  return make("div", { class: "problem", role: "alert" },
    make("p", {}, make("strong", {}, known.title), known.detail && known.detail !== known.title ? `: ${known.detail}` : "", "."),
    wait && make("p", {}, wait));
}

/** Run a page; what it throws takes the page's place. */
export async function run(page) {
  try {
    await page();
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    const again = error.status === 401 || error.status === 0
      ? make("p", {}, make("button", { type: "button", onclick: () => location.reload() }, "Try again"))
      : null;
    const heading = document.querySelector("main h1") ? null : make("h1", {}, error.status === 404 ? "Not here" : error.status === 410 ? "Gone" : "That did not work");
    fill(heading, told(error), again);
  }
}

/** Run what a button does, with the button at rest until it is done; the problem goes beside it. */
export async function busy(button, work, place = button.parentElement) {
  place.querySelector(".problem")?.remove();
  button.disabled = true;
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") place.append(told(error));
    return undefined;
  } finally {
    button.disabled = false;
  }
}
