// An open room: its loaded entries, their states, and what comes live.

import { Refused } from "/web/api.js";
import { EntryView } from "/web/entries.js";
import { LogChecker, canSign, hubOf } from "/web/verify.js";

export const PAGE = 100;
const PROVE_AFTER_MS = 300; // what comes together is proved together
// Entries kept on the page; the oldest go first, and can be loaded again.
const MAX_ENTRIES = 5_000;

export class Room {
  constructor(api, roomId, hooks) {
    this.api = api;
    this.roomId = roomId;
    this.hooks = hooks;
    this.entries = []; // neighbours, oldest first, each {seq, pdu, view, id, fault}
    this.proof = null;
    this.ending = new AbortController();
  }

  get first() { return this.entries[0]?.seq ?? 1; }
  get last() { return this.entries.at(-1)?.seq ?? 0; }

  close() {
    this.ending.abort();
  }

  async open() {
    const start = await this.api.log(this.roomId, 0, 1);
    const version = start.first_seq === 1 ? start.pdus[0]?.content?.room_version : undefined;
    this.checker = new LogChecker(this.api, this.roomId, version);
    this.version = version;
    await this.load(Math.max(0, start.head_seq - PAGE), start.head_seq);
    this.tail();
  }

  // Entries with after < seq <= until, put in front or behind; as they come in runs, what may not be read is left out.
  async load(after, until) {
    const found = [];
    while (after < until) {
      const page = await this.api.log(this.roomId, after, until - after);
      if (this.ending.signal.aborted || !page.pdus.length) break;
      page.pdus.forEach((pdu, at) => { if (page.first_seq + at <= until) found.push(this.entry(page.first_seq + at, pdu)); });
      after = page.first_seq + page.pdus.length - 1;
    }
    const front = this.entries.length > 0 && found.length > 0 && found[0].seq < this.first;
    this.entries = front ? [...found, ...this.entries] : [...this.entries, ...found];
    this.hooks.added(found, front);
    await Promise.all(found.map((entry) => this.check(entry)));
    await this.prove();
  }

  earlier() {
    return this.load(Math.max(0, this.first - 1 - PAGE), this.first - 1);
  }

  entry(seq, pdu) {
    return { seq, pdu, view: new EntryView(seq, pdu, this.api), id: null, fault: null };
  }

  async check(entry) {
    Object.assign(entry, await this.checker.check(entry.pdu));
    entry.view.show(entry.fault ? "failed" : "partly", entry.fault);
  }

  // Hold the hub to its signature under the newest entry, and every entry to the one behind it.
  async prove() {
    const newest = this.entries.at(-1);
    if (!newest || newest.fault) return this.conclude(newest ? "the newest entry cannot be verified" : null);
    if (!(await canSign)) return this.conclude("this browser cannot check signatures");
    if (this.proof?.seq !== newest.seq) {
      try {
        this.proof = { seq: newest.seq, signed: await this.checker.prove(newest.seq, newest.id, hubOf(newest.pdu)) };
      } catch (error) {
        this.conclude(error.message);
        // A server that cannot be asked has told no lie yet.
        if (!(error instanceof Refused || error instanceof TypeError)) newest.view.show("failed", error.message);
        return this.hooks.proved(error.message);
      }
    }
    return this.conclude(null);
  }

  // Walk back from the proved entry: an ID that the next entry names as its predecessor's is bound by it.
  conclude(problem) {
    let bound = !problem;
    for (let at = this.entries.length - 1; at >= 0; at -= 1) {
      const [entry, next] = [this.entries[at], this.entries[at + 1]];
      if (entry.fault === null) continue; // still being checked
      if (next && next.seq === entry.seq + 1 && entry.id !== null && next.pdu.prev_events[0] !== entry.id && !entry.fault) {
        entry.fault = "the entry after it follows another one";
      }
      if (next && next.seq !== entry.seq + 1) bound = false; // what lies between may not be read
      if (entry.fault) entry.view.show("failed", entry.fault);
      else entry.view.show(bound ? "verified" : "partly");
      if (entry.id === null || entry.fault === "the entry after it follows another one") bound = false;
    }
    this.trim();
    this.hooks.proved(problem);
  }

  trim() {
    if (this.entries.length > MAX_ENTRIES) {
      this.hooks.removed(this.entries.splice(0, this.entries.length - MAX_ENTRIES));
    }
  }

  tail() {
    let timer = 0;
    const { signal } = this.ending;
    this.api.tail(this.roomId, this.last, {
      signal,
      state: (state) => signal.aborted || this.hooks.live(state),
      entry: async (seq, pdu) => {
        if (signal.aborted || seq <= this.last) return;
        const entry = this.entry(seq, pdu);
        this.entries.push(entry);
        this.hooks.added([entry], false, true);
        await this.check(entry);
        clearTimeout(timer);
        timer = setTimeout(() => signal.aborted || this.prove(), PROVE_AFTER_MS);
      },
    });
  }
}
