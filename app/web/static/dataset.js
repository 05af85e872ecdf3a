// One dataset: its images, looked through by creator, licence and wish.

import { get, v1 } from "./api.js";
import { fill, make } from "./elements.js";
import { run } from "./errors.js";
import { count, when } from "./format.js";
import { listing, nothing } from "./listing.js";
import { grid, tile } from "./samples.js";

run(async () => {
  const dataset = await get(v1("datasets", decodeURIComponent(location.pathname.split("/")[2])));
  document.title = `${dataset.name} · Headwater`;
  const field = (id, words) => [make("label", { for: id }, words), make("input", { id, type: "search", autocomplete: "off" })];
  const opted = make("select", { id: "opted" }, [["", "Whatever they wish"], ["true", "Opted out"], ["false", "Not opted out"]].map(([value, words]) => make("option", { value }, words)));
  const place = make("div", {});
  const show = async () => {
    const query = { dataset: dataset.id, creator: form.elements.creator.value, licence: form.elements.licence.value, opted_out: opted.value };
    const empty = nothing("No such image", "Names of creators and licences are matched as a whole.");
    place.replaceChildren(...(await listing("/v1/samples", query, grid(), tile, empty)));
  };
  const form = make("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); run(show); }, onchange: () => run(show) },
    field("creator", "Creator"), field("licence", "Licence"), make("label", { for: "opted" }, "Opt-out"), opted, make("button", { type: "submit" }, "Filter"));
  await show();
  fill(
    make("header", { class: "title" }, make("div", {},
      make("h1", {}, dataset.name),
      make("p", { class: "quiet" }, `${count(dataset.sample_count, "image")}, registered ${when(dataset.created_at)}`))),
    dataset.refused_count > 0 && refused(dataset),
    form, place);
});

/** What its registration left out, asked for when somebody wants to see it. */
function refused(dataset) {
  const place = make("div", {});
  const list = make("ul", { class: "refused" });
  const row = ({ what, reason }) => make("li", {}, make("span", { class: "name" }, what), make("span", { class: "quiet" }, reason));
  const open = async () => place.replaceChildren(...(await listing(v1("datasets", dataset.id, "refused"), {}, list, row)));
  const words = `${count(dataset.refused_count, "image was", "images were")} refused`;
  return make("details", { ontoggle: (event) => event.target.open && !list.childElementCount && run(open) }, make("summary", {}, words), place);
}
