// What an answer rests on, in plain words first.

import { facts, make } from "./elements.js";
import { number, when } from "./format.js";

const METHODS = [
  ["das", "the Diffusion Attribution Score, which estimates how the model would have drawn each part of the picture without a training image"],
  ["d-trak", "D-TRAK, which compares how the model reacts to this picture and to each training image"],
  ["trak", "TRAK, which estimates how the model’s error on the picture would change without a training image"],
  ["clip", "CLIP similarity: what looks alike, whether or not the model learnt from it"],
  ["raw-pixel", "pixel similarity: what looks alike, whether or not the model learnt from it"],
];

/** The section on method, candidates, evidence and versions. */
export function basis(attribution, index) {
  const { result } = attribution;
  const rests = result.rests_on;
  return make("section", { class: "basis", "aria-labelledby": "basis" },
    make("h2", { id: "basis" }, "What this answer rests on"),
    facts([
      ["Method", `${rests.method}: ${method(rests.method)}.`],
      ["Compared with", candidates(result.candidates)],
      ["How well that was tested", evidence(result.evidence ?? [])],
      ["The ± signs", errors(rests)],
      ["The prompt", prompt(attribution)],
      ["The picture’s own credentials", credentials(attribution.request.picture_credentials)],
      ["Index", versions(attribution, index)],
    ]),
    make("details", {}, make("summary", {}, "All that is needed to repeat it"),
      facts(Object.entries(flat(rests)).map(([name, value]) => [name.replaceAll("_", " "), make("code", {}, String(value))]))));
}

function method(name) {
  return METHODS.find(([start]) => name.startsWith(start))?.[1] ?? "one of the gradient scores that Headwater knows";
}

function candidates({ exhaustive, considered, corpus, strategy }) {
  if (exhaustive) return `All ${number(corpus)} training images of the index.`;
  return `${number(considered)} of ${number(corpus)} training images, chosen beforehand by ${strategy.toUpperCase()}. The others were not looked at and cannot be named.`;
}

function evidence(measured) {
  if (!measured.length) {
    return "Not on this model. Nobody has retrained it to see whether these scores foretell what becomes of a picture, so take the order with care.";
  }
  return make("ul", { class: "bare" }, measured.map((row) => make("li", {},
    `On ${row.query_set} pictures the scores foretold what retraining did with ${(100 * row.lds).toFixed(1)} ± ${(100 * row.std_error).toFixed(1)} % (LDS)`,
    row.of_limit === null ? "" : `, ${Math.round(100 * row.of_limit)} % of what a perfect forecast would reach`,
    `. ${number(row.subsets)} subsets, measured ${when(row.measured_on).split(",")[0]}.`)));
}

function errors({ output, outputs }) {
  if (outputs < 2) return "There are none: the method gives one number for the whole picture.";
  const over = output === "regions" ? `${outputs} parts of the picture` : `${outputs} measurements`;
  return `Standard errors over the ${over}: how well those agree, not how well the method was tested.`;
}

function prompt({ request }) {
  if (request.prompt) {
    return `Drawn here from the prompt, with seed ${request.seed}, ${request.steps} steps and guidance ${request.guidance_scale}.`;
  }
  return request.caption ? "Told with the picture." : "Not told. With it, the answer would be sharper.";
}

function credentials(found) {
  if (!found) return null;
  const said = [found.generator && `made with ${found.generator}`, found.issuer && `signed by ${found.issuer}`].filter(Boolean).join(", ");
  return `C2PA: ${said || "present"}.`;
}

function versions({ index: id, result }, index) {
  const version = `version ${result.rests_on.index_version.slice(0, 12)}`;
  return index ? make("span", {}, make("a", { href: `/models/${index.model}` }, id), `, ${version}`) : `${id}, ${version}`;
}

function flat(value, prefix = "") {
  return Object.fromEntries(Object.entries(value).flatMap(([name, inner]) =>
    inner && typeof inner === "object" && !Array.isArray(inner)
      ? Object.entries(flat(inner, `${prefix}${name} `))
      : [[`${prefix}${name}`, Array.isArray(inner) ? inner.join(", ") : inner]]));
}
