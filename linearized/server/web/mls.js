// The epoch of an MLSMessage (RFC 9420, section 6): version, wire format, then group ID and epoch.

import { fromBase64 } from "/web/canonical.js";

const WIRE_FORMATS = [1, 2]; // mls_public_message, mls_private_message

export function epochOf(text) {
  try {
    const data = fromBase64(text);
    const view = new DataView(data.buffer);
    if (view.getUint16(0) !== 1 || !WIRE_FORMATS.includes(view.getUint16(2))) return null;
    const first = view.getUint8(4); // a length of one, two or four bytes (RFC 9000, section 16)
    const width = 1 << (first >> 6);
    const length = width === 1 ? first & 63 : width === 2 ? view.getUint16(4) & 0x3fff : view.getUint32(4) & 0x3fffffff;
    return Number(view.getBigUint64(4 + width + length));
  } catch {
    return null;
  }
}

// The epoch an entry was sent in, if it says; a commit begins the one after.
export function epochsOf(pdu) {
  if (pdu.type === "m.room.encrypted") return { at: epochOf(pdu.content.ciphertext || ""), next: null };
  if (pdu.type === "m.mls.commit" || pdu.type === "m.mls.proposal") {
    const at = epochOf(pdu.content.message || "");
    return { at, next: pdu.type === "m.mls.commit" && at !== null ? at + 1 : null };
  }
  return { at: null, next: null };
}
