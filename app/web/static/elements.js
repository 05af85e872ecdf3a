// Making elements. Strings become text, never markup: what the API says cannot be run.

/**
 * make("a", {href: "/", class: "quiet", onclick: go}, "text", element, null)
 * `undefined`, `null` and `false` leave an attribute or a child out; `true` is an empty attribute.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set custom properties, from which the style sheet makes lengths: a policy forbids `style="…"`. */
export function measure(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(`--${name}`, value);
  return element;
}

/** The place that the shell leaves for a page, filled in one go so that nothing moves about. */
export function fill(...children) {
  const content = document.getElementById("content");
  content.classList.remove("loading");
  content.removeAttribute("aria-busy");
  content.replaceChildren(...children.flat().filter(Boolean));
  return content;
}

/** A word for screen readers alone. */
export const unseen = (text) => make("span", { class: "unseen" }, text);

/** Facts as a list of names and values; those without a value are left out. */
export function facts(rows) {
  const kept = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "facts" }, kept.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}
