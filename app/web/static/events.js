// Server-sent events over fetch: an EventSource cannot send the key.

import { send } from "./api.js";

const PAUSES = [500, 1000, 2000, 5000, 10_000];

/** The events of an attribution until its end, over as many connections as that takes. */
export async function* follow(path, signal) {
  let seen = "0";
  let failures = 0;
  while (!signal.aborted) {
    try {
      const response = await send(path, { headers: { "Last-Event-ID": seen }, signal });
      if (response.status === 204) return;
      for await (const event of parsed(response.body)) {
        seen = event.id || seen;
        failures = 0;
        yield event;
        if (event.name === "end") return;
      }
    } catch (error) {
      // A problem of the request will not go away; a broken connection may.
      if (error.name === "AbortError" || (error.status && error.status < 500)) throw error;
    }
    if (failures === PAUSES.length) throw new Error("the connection breaks again and again");
    await new Promise((resolve) => setTimeout(resolve, PAUSES[failures++]));
  }
}

async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    const whole = waiting.split("\n\n");
    waiting = whole.pop();
    for (const text of whole) {
      const fields = Object.fromEntries(text.split("\n").filter((line) => !line.startsWith(":")).map(field));
      if (fields.data) yield { id: fields.id, name: fields.event ?? "message", data: JSON.parse(fields.data) };
    }
  }
}

function field(line) {
  const colon = line.indexOf(": ");
  return [line.slice(0, colon), line.slice(colon + 2)];
}
