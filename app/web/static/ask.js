// The question: a picture or a prompt.

import { all, send } from "./api.js";
import { make } from "./elements.js";
import { busy } from "./errors.js";
import { count } from "./format.js";
import { lately } from "./lately.js";

const form = document.getElementById("question");
const field = (id) => document.getElementById(id);
const drop = document.querySelector(".drop");
let chosen = null;

lately(field("lately"));

for (const kind of form.elements.kind) kind.addEventListener("change", showKind);
field("image").addEventListener("change", () => choose(field("image").files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) choose(file);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  busy(field("send"), ask, field("refusal"));
});

function kindOfQuestion() {
  return form.elements.kind.value;
}

function showKind() {
  const prompt = kindOfQuestion() === "prompt";
  field("of-prompt").hidden = !prompt;
  field("of-picture").hidden = prompt;
  field("send").textContent = prompt ? "Draw it and find where it came from" : "Find where it came from";
}

function choose(file) {
  if (!file) return;
  chosen = file;
  form.elements.kind.value = "picture";
  showKind();
  const preview = field("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  drop.classList.add("full");
  field("chosen").textContent = `${file.name || "Pasted picture"} (${count(Math.max(1, Math.round(file.size / 1000)), "kB", "kB")})`;
}

async function ask() {
  const common = {
    model: field("model").value,
    method: field("method").value,
    top_k: field("top").value,
    candidates: field("candidates").value,
  };
  const request = kindOfQuestion() === "prompt" ? promptRequest(common) : pictureRequest(common);
  if (!request) return;
  request.headers = { ...request.headers, "Idempotency-Key": onceKey() };
  const { id } = await (await send("/v1/attributions", { method: "POST", ...request })).json();
  location.assign(`/answers/${id}`);
}

function pictureRequest(common) {
  if (!chosen) {
    refuse("Choose a picture first.", field("image"));
    return null;
  }
  const body = new FormData();
  body.append("image", chosen);
  for (const [name, value] of Object.entries({ ...common, caption: field("caption").value })) {
    if (value) body.append(name, value);
  }
  return { body };
}

function promptRequest(common) {
  if (!field("prompt").value.trim()) {
    refuse("Write a prompt first.", field("prompt"));
    return null;
  }
  const given = Object.entries({ ...common, top_k: Number(common.top_k) }).filter(([, value]) => value);
  const question = {
    ...Object.fromEntries(given),
    prompt: field("prompt").value,
    negative_prompt: field("negative").value,
    seed: Number(field("seed").value),
    guidance_scale: field("guidance").value === "" ? null : Number(field("guidance").value),
    steps: Number(field("steps").value),
  };
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) };
}

function refuse(words, where) {
  field("refusal").append(make("div", { class: "problem", role: "alert" }, make("p", {}, words)));
  where.focus();
}

/** Pressed twice, or sent again after a broken connection, it is still one question. */
function onceKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What can be asked is offered when somebody looks for it. */
document.querySelector("#question details").addEventListener("toggle", async () => {
  try {
    const [models, indexes] = await Promise.all([all("/v1/models"), all("/v1/indexes")]);
    const ready = indexes.filter(({ state }) => state === "ready");
    const asked = models.filter(({ id }) => ready.some(({ model, active }) => active && model === id));
    field("model").append(...asked.map(({ id, name }) => make("option", { value: id }, name)));
    const methods = [...new Set(ready.flatMap((index) => index.methods))];
    field("method").append(...methods.map((name) => make("option", { value: name }, name)));
  } catch {
    // A key may open attributions alone: the default answers then.
  }
}, { once: true });
