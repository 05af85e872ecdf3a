// An answer's images as a table for spreadsheets.

const COLUMNS = ["rank", "key", "text", "creator", "creator_uri", "licence", "source", "effect", "std_error", "score", "share", "clip_similarity"];

/** RFC 4180. Text that a spreadsheet would take for a formula begins with an apostrophe. */
export function asCsv(contributors) {
  const regions = contributors[0]?.regions?.map((_, i) => `region_${i + 1}`) ?? [];
  const rows = contributors.map((row) => [...COLUMNS.map((name) => row[name]), ...(row.regions ?? [])]);
  return [[...COLUMNS, ...regions], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
