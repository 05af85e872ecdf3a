// Numbers, times and names as people read them.

const NUMBER = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** 0.1234 → "12.3 %"; what is there but rounds to nothing says so. */
export function percent(part) {
  if (part > 0 && part < 0.0005) return "< 0.1 %";
  return `${(100 * part).toFixed(1)} %`;
}

/** A share with its standard error, both in %. */
export function share(part, error) {
  if (error === null || error === undefined) return percent(part);
  return `${(100 * part).toFixed(1)} ± ${(100 * error).toFixed(1)} %`;
}

export const number = (value) => NUMBER.format(value);

export function count(n, one, many = `${one}s`) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

export const when = (text) => TIME.format(new Date(text));

/** The power of ten in which all of some effects read well. */
export function unitOf(values) {
  const largest = Math.max(0, ...values.map(Math.abs));
  if (largest === 0) return 0;
  const power = Math.floor(Math.log10(largest));
  return power >= -1 && power <= 2 ? 0 : power;
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

export const powerOfTen = (power) => `10${[...String(power)].map((digit) => RAISED[digit]).join("")}`;

/** "+1.23 ± 0.40", in units of a power of ten. */
export function effect(value, error, power) {
  const scale = 10 ** -power;
  const sign = value < 0 ? "−" : "+";
  const text = `${sign}${Math.abs(value * scale).toFixed(2)}`;
  return error === null || error === undefined ? text : `${text} ± ${(error * scale).toFixed(2)}`;
}

/** What was asked about, in a few words. */
export function asked(attribution) {
  const words = attribution.request.prompt || attribution.request.caption;
  return words ? `“${words}”` : "An uploaded picture";
}

export const STATUS = {
  queued: "Waiting",
  running: "Working",
  succeeded: "Answered",
  failed: "Failed",
  canceled: "Canceled",
  expired: "Expired",
};

export const ENDED = new Set(["succeeded", "failed", "canceled", "expired"]);
