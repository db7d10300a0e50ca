// Checking entries without trusting the server that tells them: each event's hashes, its ID, the signatures of
// the servers that had to sign it, that it follows the entry before; and that the newest is in the log its hub
// signs for. As each ID covers the one before, that binds all of them.

import { VERSIONS, bytes, canonical, contentHash, eventId, fromBase64, lpduHash, lpduOf, signedBytes, without }
  from "/web/canonical.js";
import { leafOf, openCheckpoint, rootOf, same } from "/web/merkle.js";

const domain = (id) => id.slice(id.indexOf(":") + 1);

async function ed25519(raw, signature, message) {
  const key = await crypto.subtle.importKey("raw", raw, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, signature, message);
}

// Whether the browser can check signatures: Ed25519 came to browsers between 2023 and 2025.
export const canSign = crypto.subtle === undefined ? Promise.resolve(false)
  : crypto.subtle.importKey("raw", new Uint8Array(32), "Ed25519", false, ["verify"]).then(() => true, () => false);

// Servers' keys as the provider knows them, each document checked against a key of its own.
export class Keys {
  constructor(api) {
    this.api = api;
    this.servers = new Map();
  }

  of(server) {
    if (!this.servers.has(server)) {
      const asked = this.ask(server);
      asked.catch(() => this.servers.delete(server)); // the next time it may be there
      this.servers.set(server, asked);
    }
    return this.servers.get(server);
  }

  async ask(server) {
    const keys = new Map();
    for (const document of await this.api.keys(server)) {
      if (document.server_name !== server) continue;
      const message = bytes(canonical(without(document, "signatures")));
      const current = Object.entries(document.verify_keys || {});
      const signed = await Promise.all(current.map(([id, { key }]) => {
        const signature = document.signatures?.[server]?.[id];
        return signature ? ed25519(fromBase64(key), fromBase64(signature), message) : false;
      }));
      if (!signed.some(Boolean)) throw new Error(`the keys of ${server} are not signed`);
      for (const [id, { key }] of [...current, ...Object.entries(document.old_verify_keys || {})]) {
        keys.set(id, fromBase64(key));
      }
    }
    return keys;
  }
}

// The server that put an event into the log, and is to be its hub.
export const hubOf = (pdu) => pdu.hub_server || domain(pdu.sender);

// One room's loaded entries, which are neighbours. `check` gives each entry's state, `prove` all of theirs.
export class LogChecker {
  constructor(api, roomId, versionName) {
    this.api = api;
    this.roomId = roomId;
    this.version = Object.hasOwn(VERSIONS, versionName) ? VERSIONS[versionName] : null;
    this.keys = new Keys(api);
  }

  // Resolves with the event ID and what is wrong with the event in itself; "" for nothing.
  async check(pdu) {
    let id = null;
    try {
      if (!this.version) throw new Error("this page does not know the room's version");
      id = await eventId(pdu, this.version);
      if (pdu.room_id !== this.roomId) throw new Error("the entry is of another room");
      if (pdu.hashes.sha256 !== await contentHash(pdu, this.version)) throw new Error("its content was changed");
      if (pdu.hashes.lpdu && pdu.hashes.lpdu.sha256 !== await lpduHash(pdu, this.version)) {
        throw new Error("what its sender wrote was changed");
      }
      if (await canSign) await this.signatures(pdu);
      return { id, fault: "" };
    } catch (error) {
      return { id, fault: error.message };
    }
  }

  async signatures(pdu) {
    const [hub, origin] = [hubOf(pdu), domain(pdu.sender)];
    await this.signed(hub, pdu.signatures, signedBytes(pdu, this.version));
    if (hub !== origin && !pdu.provenance) {
      await this.signed(origin, pdu.signatures, signedBytes(lpduOf(pdu), this.version));
    }
  }

  async signed(server, signatures, message) {
    const known = await this.keys.of(server);
    const found = Object.entries(signatures?.[server] || {}).filter(([id]) => known.has(id));
    if (!found.length) throw new Error(`${server} did not sign it with a key that is known`);
    for (const [id, signature] of found) {
      if (!(await ed25519(known.get(id), fromBase64(signature), message))) {
        throw new Error(`the signature of ${server} is wrong`);
      }
    }
  }

  // That the entry with this number and ID is in the log of its hub, by a checkpoint that the hub signed.
  async prove(seq, id, hub) {
    const { checkpoint } = await this.api.checkpoint(this.roomId, seq);
    const keys = [...(await this.keys.of(hub)).values()];
    const signed = await openCheckpoint(checkpoint, { hub, roomId: this.roomId, keys, verify: ed25519 });
    if (signed.size !== seq) throw new Error("the checkpoint is of another size");
    const proof = await this.api.inclusion(this.roomId, id, seq);
    const root = await rootOf(await leafOf(id), seq - 1, seq, proof.hashes.map(fromBase64));
    if (proof.seq !== seq || !same(root, signed.root)) throw new Error("the hub signs another log than it tells");
    return signed;
  }
}
