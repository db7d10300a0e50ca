// An entry as an element of the timeline. Text only ever goes in as text.

import { epochsOf } from "/web/mls.js";

const MARKS = {
  checking: ["…", "checking"],
  partly: ["○", "hashes hold"],
  verified: ["✓", "verified"],
  failed: ["✗", "not verified"],
};
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const MEMBERSHIPS = { join: "joined", leave: "left", invite: "was invited", ban: "was banned", knock: "asked to join" };

// What an entry says, in words.
export function textOf(pdu) {
  const { content, type } = pdu;
  switch (type) {
    case "m.room.message": return typeof content.body === "string" ? content.body : "(no text)";
    case "m.room.member":
      if (content.membership === "leave" && pdu.sender !== pdu.state_key) return `${pdu.state_key} was removed`;
      return `${pdu.state_key} ${MEMBERSHIPS[content.membership] || content.membership}`;
    case "m.room.create": return `created the room, version ${content.room_version}`;
    case "m.room.name": return content.name ? `named the room “${content.name}”` : "took the room's name away";
    case "m.room.topic": return content.topic ? `set the topic: ${content.topic}` : "took the topic away";
    case "m.room.redaction": return "took a message back; the log keeps what it was";
    case "m.room.encrypted": return "encrypted message: only members' devices can read it";
    case "m.mls.commit": return "changed the group";
    case "m.mls.proposal": return "proposed a change of the group";
    default: return type;
  }
}

export class EntryView {
  constructor(seq, pdu, api) {
    this.seq = seq;
    this.pdu = pdu;
    this.text = textOf(pdu);
    this.state = "checking";
    const state = pdu.state_key !== undefined || pdu.type.startsWith("m.mls.");
    const epochs = epochsOf(pdu);
    const epoch = epochs.next !== null ? `epoch ${epochs.at} → ${epochs.next}`
      : epochs.at !== null ? `epoch ${epochs.at}` : null;
    const at = new Date(pdu.origin_server_ts);
    this.mark = make("span", { class: "mark" });
    this.said = make("p", { class: "said" }, this.text);
    this.why = make("p", { class: "why", hidden: true });
    this.raw = make("pre", { tabindex: "0" });
    const details = make("details", {}, make("summary", {}, "Signed event"), this.raw);
    details.addEventListener("toggle", () => { this.raw.textContent = JSON.stringify(this.pdu, null, 2); }, { once: true });
    this.element = make("li", { class: "entry", "data-seq": String(seq), "data-kind": state ? "state" : "message" },
      make("p", { class: "head" },
        make("span", { class: "seq" }, `#${seq}`),
        make("span", { class: "sender" }, pdu.sender),
        epoch && make("span", { class: "epoch" }, epoch),
        make("time", { datetime: at.toISOString() }, at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })),
        this.mark),
      this.said, this.why, this.file(api), details);
    this.show("checking");
  }

  show(state, why = "") {
    this.state = state;
    const [sign, words] = MARKS[state];
    this.element.dataset.state = this.mark.dataset.state = state;
    this.mark.replaceChildren(make("span", { "aria-hidden": "true" }, sign), words);
    this.why.hidden = !why;
    this.why.textContent = why && `Entry ${this.seq}: ${why}.`;
  }

  // Files come only when they are asked for, with the session's token.
  file(api) {
    const { url, body, info } = this.pdu.content;
    if (this.pdu.type !== "m.room.message" || typeof url !== "string") return null;
    const button = make("button", { type: "button", class: "quiet" }, `Show ${body || "file"}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const blob = await api.media(url);
        const address = URL.createObjectURL(blob);
        button.replaceWith(IMAGES.includes(blob.type) && (!info?.mimetype || IMAGES.includes(info.mimetype))
          ? make("img", { src: address, alt: body || "a picture" })
          : make("a", { href: address, download: body || "file" }, `Save ${body || "file"}`));
      } catch (error) {
        button.disabled = false;
        button.textContent = `Try again: ${error.message}`;
      }
    });
    return button;
  }

  // Whether the entry matches a search; what matched is marked in its text.
  match(words) {
    const hay = `${this.text} ${this.pdu.sender} ${this.pdu.type} #${this.seq}`.toLowerCase();
    const found = hay.includes(words);
    this.element.hidden = !found;
    const at = words ? this.text.toLowerCase().indexOf(words) : -1;
    if (at < 0) this.said.replaceChildren(this.text);
    else this.said.replaceChildren(this.text.slice(0, at), make("mark", {}, this.text.slice(at, at + words.length)),
      this.text.slice(at + words.length));
    return found;
  }
}
