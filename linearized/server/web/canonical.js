// Canonical JSON, redaction and hashes of events (docs/linearized-matrix.md; linearized.protocol in Python).

const KEPT = ["type", "room_id", "sender", "state_key", "content", "origin_server_ts", "hashes", "signatures",
  "prev_events", "auth_events", "hub_server"];
const CONTENT = {
  "m.room.create": null,
  "m.room.member": ["membership"],
  "m.room.join_rules": ["join_rule"],
  "m.room.power_levels": ["ban", "events", "events_default", "kick", "redact", "state_default", "users",
    "users_default", "invite"],
  "m.room.history_visibility": ["history_visibility"],
};

// What each room version does otherwise; of any other version nothing is known, and nothing is verified.
const DRAFT = "org.matrix.i-d.ralston-mimi-linearized-matrix";
export const VERSIONS = {
  "I.1": { kept: KEPT, content: CONTENT, lpduHashes: true, hashesUnsigned: true },
  [`${DRAFT}.02`]: { kept: KEPT, content: CONTENT, lpduHashes: true, hashesUnsigned: true },
  [`${DRAFT}.00`]: { kept: KEPT, content: CONTENT, lpduHashes: false, hashesUnsigned: false },
  "dev.linearized.1": {
    kept: [...KEPT, "provenance"],
    content: { ...CONTENT, "m.room.hub": ["after", "takeover"] },
    lpduHashes: true,
    hashesUnsigned: true,
  },
};

// RFC 8785 on integers: JavaScript's own order of strings is by UTF-16 code units, and JSON.stringify escapes
// just what canonical JSON escapes.
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const keys = Object.keys(value).sort();
    return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new Error("a number is no safe integer");
  return JSON.stringify(value);
}

export function without(object, ...names) {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

function only(object, names) {
  return Object.fromEntries(Object.entries(object).filter(([name]) => names.includes(name)));
}

export function redact(pdu, version) {
  const redacted = only(pdu, version.kept);
  const fields = Object.hasOwn(version.content, pdu.type) ? version.content[pdu.type] : [];
  if (fields !== null) redacted.content = only(pdu.content, fields);
  return redacted;
}

export const bytes = (text) => new TextEncoder().encode(text);
export const sha256 = async (data) => new Uint8Array(await crypto.subtle.digest("SHA-256", data));

export function fromBase64(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

export function toBase64(data) {
  return btoa(String.fromCharCode(...data)).replace(/=+$/, "");
}

export const signedBytes = (pdu, version) => bytes(canonical(without(redact(pdu, version), "signatures")));

export async function eventId(pdu, version) {
  const hash = toBase64(await sha256(signedBytes(pdu, version)));
  return `$${hash.replaceAll("+", "-").replaceAll("/", "_")}`;
}

async function hashOf(covered, version) {
  const value = version.hashesUnsigned ? covered : without(covered, "unsigned");
  return toBase64(await sha256(bytes(canonical(value))));
}

export function contentHash(pdu, version) {
  const covered = without(pdu, "signatures", "hashes");
  if (version.lpduHashes && pdu.hashes.lpdu) covered.hashes = { lpdu: pdu.hashes.lpdu };
  return hashOf(covered, version);
}

export const lpduHash = (pdu, version) =>
  hashOf(without(pdu, "hashes", "auth_events", "prev_events", "signatures"), version);

// The part of an event that its sender's server signed, when another server is the hub.
export function lpduOf(pdu) {
  const lpdu = without(pdu, "hashes", "auth_events", "prev_events");
  if (pdu.hashes.lpdu) lpdu.hashes = { lpdu: pdu.hashes.lpdu };
  return lpdu;
}
