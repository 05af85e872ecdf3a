// Everything that was asked.

import { make, fill } from "./elements.js";
import { run } from "./errors.js";
import { asked, STATUS, when } from "./format.js";
import { listing, nothing } from "./listing.js";
import { picture } from "./pictures.js";

run(async () => {
  const status = make("select", { id: "status" }, make("option", { value: "" }, "All"),
    Object.entries(STATUS).map(([value, name]) => make("option", { value }, name)));
  const place = make("div", {});
  const show = async () => {
    const list = make("ul", { class: "jobs" });
    const empty = nothing("Nothing yet", make("a", { href: "/" }, "Ask about a picture"), " and it will be here.");
    place.replaceChildren(...(await listing("/v1/attributions", { status: status.value }, list, job, empty, 30)));
  };
  status.addEventListener("change", () => run(show));
  await show();
  fill(make("div", { class: "filters" }, make("label", { for: "status" }, "Show"), status), place);
});

function job(attribution) {
  const first = attribution.result?.by_creator[0];
  const said = attribution.status === "succeeded" && first
    ? `Most of all: ${first.creator}, ${Math.round(100 * first.share)} %`
    : attribution.problem?.title ?? "";
  return make("li", {},
    make("a", { href: `/answers/${attribution.id}` },
      attribution.request.prompt && attribution.status !== "succeeded"
        ? make("span", { class: "thumbnail missing" })
        : picture(attribution.urls.image, ""),
      make("span", { class: "name" }, asked(attribution)),
      make("span", { class: "quiet" }, said),
      make("span", { class: `badge ${attribution.status}` }, STATUS[attribution.status]),
      make("time", { class: "quiet", datetime: attribution.created_at }, when(attribution.created_at))));
}
