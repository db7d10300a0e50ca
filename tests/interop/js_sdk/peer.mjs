// Two unmodified matrix-js-sdk clients, alice and bob, do what people do with them.
//
// Reads {"homeserver": ..., "password": ...} and writes what the steps led to, as JSON in the last line: the SDK has its
// log before that. The directory with the node_modules is in LINEARIZED_JS_SDK, the environment variable.

import { webcrypto } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { pathToFileURL } from "node:url"

globalThis.crypto ??= webcrypto // Node 18 does not define it

const sdk = await import(pathToFileURL(join(process.env.LINEARIZED_JS_SDK, "matrix-js-sdk/lib/index.js")))
const { EventType, RelationType } = sdk

// Far more than anything here takes, on a machine that does much else.
const PATIENCE_MS = 15_000
const LOOK_MS = 10
const [ALICE, BOB] = ["@alice:a.example", "@bob:a.example"]
const PICTURE = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
)

const request = JSON.parse(readFileSync(0, "utf8"))
const refused = [] // every request that was not answered with a 200, which the SDK may well swallow
const seen = {}

async function watched(resource, options) {
  const response = await fetch(resource, options)
  if (response.status !== 200) {
    const url = new URL(resource)
    const { errcode } = await response.clone().json()
    refused.push([options?.method ?? "GET", url.pathname, response.status, errcode])
  }
  return response
}

async function loggedIn(user) {
  const visitor = sdk.createClient({ baseUrl: request.homeserver, fetchFn: watched })
  const login = await visitor.loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user },
    password: request.password,
  })
  return sdk.createClient({
    baseUrl: request.homeserver,
    fetchFn: watched,
    accessToken: login.access_token,
    userId: login.user_id,
    deviceId: login.device_id,
    timelineSupport: true,
  })
}

// Resolves once `holds` does. It is asked again and again: of what comes in a sync, the SDK often asks for more first.
async function until(what, holds) {
  for (const deadline = Date.now() + PATIENCE_MS; !holds(); await setTimeout(LOOK_MS))
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`)
}

async function started(client) {
  await client.startClient({ initialSyncLimit: 5, pollTimeout: 10_000, threadSupport: true })
  await until("the first sync is over", () => ["PREPARED", "SYNCING"].includes(client.getSyncState()))
}

const text = (body) => ({ msgtype: "m.text", body })
const live = (client, roomId) => client.getRoom(roomId).getLiveTimeline().getEvents()
const said = (client, roomId, eventId) => client.getRoom(roomId).findEventById(eventId)
const member = (client, roomId, userId) => client.getRoom(roomId)?.getMember(userId)
const unread = (client, roomId) => client.getRoom(roomId).getUnreadNotificationCount("total")
const arrived = (client, roomId, eventId) =>
  until(`${eventId} arrives`, () => client.getRoom(roomId)?.findEventById(eventId))
const bodies = (events) =>
  events.filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body)

const alice = await loggedIn("alice")
const bob = await loggedIn("bob")
seen.whoami = (await bob.whoami()).user_id

// Profile and media.
const { content_uri: picture } = await alice.uploadContent(PICTURE, { name: "dot.png", type: "image/png" })
await alice.setDisplayName("Alice")
await alice.setAvatarUrl(picture)
seen.profile = await bob.getProfileInfo(ALICE)
seen.profile.avatar_url = seen.profile.avatar_url === picture ? "the picture" : seen.profile.avatar_url
const headers = { Authorization: `Bearer ${bob.getAccessToken()}` }
const file = await fetch(bob.mxcUrlToHttp(picture, undefined, undefined, undefined, false, true, true), { headers })
const bytes = Buffer.from(await file.arrayBuffer())
seen.download = [file.status, file.headers.get("content-type"), bytes.equals(PICTURE)]
const small = await fetch(bob.mxcUrlToHttp(picture, 32, 32, "crop", false, true, true), { headers })
seen.thumbnail = [small.status, small.headers.get("content-type")]
seen.uploadLimit = typeof (await bob.getMediaConfig(true))["m.upload.size"]

// A room: made, invited to, joined.
await Promise.all([started(alice), started(bob)])
const { room_id: roomId } = await alice.createRoom({
  name: "Harbour",
  topic: "Ships",
  preset: "private_chat",
  visibility: "private",
  invite: [BOB],
})
await until("bob is invited", () => bob.getRoom(roomId)?.getMyMembership() === "invite")
seen.invitedTo = bob.getRoom(roomId).name
await bob.joinRoom(roomId)
await until("bob is in", () => bob.getRoom(roomId).getMyMembership() === "join")
await until("alice sees bob", () => member(alice, roomId, BOB)?.membership === "join")
seen.nameOfAlice = member(bob, roomId, ALICE).name

// Messages: sent, answered, reacted to, edited, in a thread, redacted.
const { event_id: first } = await alice.sendMessage(roomId, text("first"))
await arrived(bob, roomId, first)
const { event_id: answer } = await bob.sendMessage(roomId, {
  ...text("answer"),
  "m.relates_to": { "m.in_reply_to": { event_id: first } },
})
await arrived(alice, roomId, answer)
seen.answers = said(alice, roomId, answer).replyEventId === first
const { event_id: reaction } = await bob.sendEvent(roomId, EventType.Reaction, {
  "m.relates_to": { rel_type: RelationType.Annotation, event_id: first, key: "⚓" },
})
const { event_id: edit } = await bob.sendMessage(roomId, {
  ...text("* better answer"),
  "m.new_content": text("better answer"),
  "m.relates_to": { rel_type: RelationType.Replace, event_id: answer },
})
await arrived(alice, roomId, edit)
await until("the edit is seen", () => said(alice, roomId, answer).getContent().body === "better answer")
const kinds = [RelationType.Annotation, EventType.Reaction]
const relations = alice.getRoom(roomId).relations.getChildEventsForEvent(first, ...kinds)
seen.reactions = relations.getSortedAnnotationsByKey().map(([key, events]) => [key, events.size])
const edited = await alice.fetchRoomEvent(roomId, answer)
seen.fetchedEdit = edited.unsigned["m.relations"]["m.replace"].event_id === edit
const { event_id: threaded } = await bob.sendMessage(roomId, {
  ...text("in the thread"),
  "m.relates_to": { rel_type: RelationType.Thread, event_id: first },
})
await until("alice sees the thread", () => alice.getRoom(roomId).getThread(first)?.findEventById(threaded))
seen.thread = alice.getRoom(roomId).getThread(first).length
const { events: related } = await alice.relations(roomId, first, ...kinds)
seen.related = related.map((event) => event.getId() === reaction)
await alice.redactEvent(roomId, first, undefined, { reason: "spoken too soon" })
await until("bob sees the redaction", () => said(bob, roomId, first).isRedacted())
seen.redacted = said(bob, roomId, first).getContent()
seen.fetchedRedacted = (await bob.fetchRoomEvent(roomId, first)).content

// State.
await alice.setRoomTopic(roomId, "Boats")
const topic = () => bob.getRoom(roomId).currentState.getStateEvents("m.room.topic", "").getContent().topic
await until("bob reads the topic", () => topic() === "Boats")
seen.topic = (await bob.getStateEvent(roomId, "m.room.topic", "")).topic
await alice.setPowerLevel(roomId, BOB, 50)
await until("bob is a moderator", () => member(bob, roomId, BOB).powerLevel === 50)
seen.members = Object.keys((await bob.getJoinedRoomMembers(roomId)).joined).sort()
seen.joinedRooms = (await bob.getJoinedRooms()).joined_rooms.length

// Receipts, typing, read markers, account data, tags, push rules.
const { event_id: question } = await alice.sendMessage(roomId, text("read this"))
await arrived(bob, roomId, question)
seen.unread = unread(bob, roomId)
await bob.sendReadReceipt(said(bob, roomId, question))
const readers = () => alice.getRoom(roomId).getUsersReadUpTo(said(alice, roomId, question))
await until("alice sees the receipt", () => readers().includes(BOB))
await until("nothing is unread", () => unread(bob, roomId) === 0)
await bob.sendTyping(roomId, true, 20_000)
await until("bob types", () => member(alice, roomId, BOB).typing)
await bob.sendTyping(roomId, false, 20_000)
await until("bob ceases", () => !member(alice, roomId, BOB).typing)
await bob.setRoomReadMarkers(roomId, answer)
const marker = () => bob.getRoom(roomId).getAccountData("m.fully_read")?.getContent().event_id
await until("the marker is back", () => marker() === answer)
await bob.setAccountData("org.example.colour", { colour: "blue" })
seen.accountData = await bob.getAccountDataFromServer("org.example.colour")
await bob.setRoomTag(roomId, "m.favourite", { order: 0.5 })
await until("the tag is back", () => "m.favourite" in bob.getRoom(roomId).tags)
seen.tags = (await bob.getRoomTags(roomId)).tags
await bob.setRoomMutePushRule("global", roomId, true)
seen.muted = (await bob.getPushRules()).global.room.map((rule) => [rule.rule_id === roomId, rule.actions])
seen.devices = (await bob.getDevices()).devices.length
seen.found = (await bob.searchUserDirectory({ term: "alice" })).results.map((user) => user.user_id)

// A gap in the timeline, which paging back closes; then back to the room's beginning.
bob.stopClient()
const later = []
for (let n = 1; n <= 24; n++) later.push((await alice.sendMessage(roomId, text(`later ${n}`))).event_id)
const bobAgain = await loggedIn("bob")
await started(bobAgain)
seen.firstTimeline = bodies(live(bobAgain, roomId))
const room = bobAgain.getRoom(roomId)
let pages = 0
while (room.oldState.paginationToken !== null && pages++ < 20) await bobAgain.scrollback(room, 10)
const ids = live(bobAgain, roomId).map((event) => event.getId())
seen.pagedTo = live(bobAgain, roomId)[0].getType()
seen.laterInOrder = bodies(live(bobAgain, roomId)).filter((body) => body?.startsWith("later"))
seen.everyEventOnce = new Set(ids).size === ids.length
const around = await bobAgain.getEventTimeline(room.getUnfilteredTimelineSet(), later[12])
seen.around = around.getEvents().map((event) => event.getId()).includes(later[12])
await started(bob)
await arrived(bob, roomId, later.at(-1))
seen.unreadLater = unread(bob, roomId)
seen.gap = bodies(live(bob, roomId))
const { event_id: last } = await alice.sendMessage(roomId, text("last"))
await Promise.all([arrived(bob, roomId, last), arrived(bobAgain, roomId, last)])

// Leaving and logging out.
await bob.leave(roomId)
await until("alice sees bob leave", () => member(alice, roomId, BOB).membership === "leave")
await until("bob is out", () => bob.getRoom(roomId).getMyMembership() === "leave")
await bob.forget(roomId)
seen.afterForgetting = bob.getRoom(roomId) === null
for (const client of [alice, bob, bobAgain]) client.stopClient()
const mistakes = refused.splice(0)
await bob.logout(true)
seen.afterLogout = await bob.whoami().then(
  () => "still in",
  (error) => error.errcode,
)
seen.stillIn = (await bobAgain.whoami()).user_id
for (const client of [alice, bobAgain]) await client.logout(true)
process.stdout.write(`\n${JSON.stringify({ ...seen, refused: mistakes })}`, () => process.exit(0))
