// Talking to /v1. Every refusal is a Problem (RFC 9457).

import { askForKey, currentKey, needsKey } from "./key.js";

export class Problem extends Error {
  constructor(body, retryAfter = null) {
    super(body.detail || body.title);
    this.title = body.title;
    this.detail = body.detail ?? null;
    this.status = body.status;
    this.type = body.type ?? "about:blank";
    this.retryAfter = retryAfter;
  }
}

const UNREACHABLE = { status: 0, title: "The server cannot be reached", detail: "Is it running, and is this computer online?" };

/** A response that is no refusal. A key that is missing or wrong is asked for, and the request made again. */
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  for (;;) {
    const key = currentKey();
    const all = key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
    let response;
    try {
      // What one key has seen must not come out of the cache for another.
      const cache = needsKey ? "no-cache" : "default";
      response = await fetch(path, { method, headers: all, body, signal, cache, credentials: "same-origin" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(UNREACHABLE);
    }
    if (response.ok) return response;
    const problem = await asProblem(response);
    if (problem.status !== 401 || !needsKey) throw problem;
    const other = currentKey() !== key; // somebody entered it while this request was under way
    if (!other && !(await askForKey(key ? problem.title : ""))) throw problem;
  }
}

async function asProblem(response) {
  const retryAfter = response.headers.get("Retry-After");
  const fallback = { status: response.status, title: response.statusText || `The server answered ${response.status}` };
  try {
    return new Problem({ ...fallback, ...(await response.json()) }, retryAfter);
  } catch {
    return new Problem(fallback, retryAfter);
  }
}

export const get = async (path) => (await send(path)).json();

/** POST (or another method) of JSON. */
export async function post(path, value, { method = "POST" } = {}) {
  const json = value === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) };
  const response = await send(path, { method, ...json });
  return response.status === 204 ? null : response.json();
}

/** A path with a query, without what is empty. */
export function address(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** One page of a list after another. */
export async function* pages(path, query = {}) {
  let cursor = null;
  do {
    const page = await get(address(path, { ...query, cursor }));
    yield page.items;
    cursor = page.next_cursor;
  } while (cursor);
}

/** All items of a list that is known to be short. */
export async function all(path, query = {}) {
  const found = [];
  for await (const items of pages(path, { limit: 200, ...query })) found.push(...items);
  return found;
}

/** A path below /v1 from parts that may hold anything. */
export const v1 = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

/** The same where the last part is a sample's key, whose slashes stay. */
export const sampleUrl = (dataset, key, kind = "") =>
  `${v1("datasets", dataset, "samples")}/${key.split("/").map(encodeURIComponent).join("/")}${kind && `/${kind}`}`;
