// Pictures of the API. An <img> sends no key, so where one is needed the picture is fetched and shown
// from memory, once it comes near the visible part of the page.

import { send } from "./api.js";
import { make } from "./elements.js";
import { needsKey } from "./key.js";

const coming = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    coming.unobserve(target);
    show(target, target.dataset.src);
  }
}, { rootMargin: "400px" });

async function show(image, path) {
  try {
    const url = URL.createObjectURL(await (await send(path)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    missing(image);
  }
}

function missing(image) {
  image.classList.add("missing");
  image.removeAttribute("src");
}

/** An <img> of a path below /v1; its size comes from the style sheet, so that nothing moves. */
export function picture(path, alt, kind = "thumbnail") {
  const lazily = kind === "thumbnail" ? "lazy" : "eager";
  const image = make("img", { class: kind, alt, loading: lazily, decoding: "async", onerror: () => missing(image) });
  if (needsKey) {
    image.dataset.src = path;
    coming.observe(image);
  } else {
    image.src = path;
  }
  return image;
}
