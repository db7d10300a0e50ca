// RFC 6962 trees over event IDs, and the hub's signed checkpoints of them (C2SP tlog-checkpoint, signed-note).

import { bytes, fromBase64, sha256, toBase64 } from "/web/canonical.js";

const joined = (...parts) => {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
};
export const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
export const leafOf = (id) => sha256(joined([0], bytes(id)));
const node = (left, right) => sha256(joined([1], left, right));

// RFC 9162, section 2.1.3.2: the root that a leaf (from 0) and its path lead to.
export async function rootOf(leaf, index, size, path) {
  if (index >= size) throw new Error("the entry is not in that log");
  let [at, last, hash] = [index, size - 1, leaf];
  for (const step of path) {
    if (last === 0) throw new Error("the proof is too long");
    if (at % 2 === 1 || at === last) {
      hash = await node(step, hash);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else {
      hash = await node(hash, step);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  if (last !== 0) throw new Error("the proof is too short");
  return hash;
}

// Python's quote(): encodeURIComponent leaves five characters that it does not.
const quoted = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

// What a checkpoint says, once a key of the hub is found to have signed it.
export async function openCheckpoint(note, { hub, roomId, keys, verify }) {
  const end = note.lastIndexOf("\n\n");
  const [origin, size, root] = note.slice(0, end).split("\n");
  if (end < 0 || origin !== `${hub}/rooms/${quoted(roomId)}`) throw new Error("the checkpoint is of another log");
  const signed = bytes(note.slice(0, end + 1));
  for (const line of note.slice(end + 2).split("\n")) {
    const found = /^\u2014 (\S+) (\S+)$/.exec(line);
    if (!found || found[1] !== origin) continue;
    const blob = fromBase64(found[2]);
    for (const key of keys) {
      const hash = await sha256(joined(bytes(`${origin}\n`), [1], key));
      if (!same(hash.slice(0, 4), blob.slice(0, 4))) continue;
      if (!(await verify(key, blob.slice(4), signed))) throw new Error("the checkpoint's signature is wrong");
      return { size: Number(size), root: fromBase64(root), text: toBase64(fromBase64(root)) };
    }
  }
  throw new Error("no known key of the hub signed the checkpoint");
}
