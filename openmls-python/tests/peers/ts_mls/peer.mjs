// Members of MLS groups, made with ts-mls, for the tests of openmls-python.
//
// Reads one JSON object a line, {"op": ..., "member": ..., ...}, and answers each with one line: {"value": {...}} or
// {"error": "..."}. Bytes are hexadecimal strings. A member is a number that "new" gives; it has at most one group.
// What a commit leads to is kept aside until "merge", as a client does that waits for its delivery service.
// The directory with the node_modules is in LINEARIZED_TS_MLS, the environment variable.

import { webcrypto } from "node:crypto"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { pathToFileURL } from "node:url"

globalThis.crypto ??= webcrypto // Node 18 does not define it

const load = (name) =>
  import(pathToFileURL(join(process.env.LINEARIZED_TS_MLS, "ts-mls/dist/src", name)).href)
const mls = await load("index.js")
const { createGroupInfo } = await load("createCommit.js")
const { decodeExtension } = await load("extension.js")
const { encodeGroupContext } = await load("groupContext.js")
const { decodeRatchetTree, encodeRatchetTree } = await load("ratchetTree.js")

const SUITES = {
  1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
  2: "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
  3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
}

// What groups of openmls-python require of each member if they are not plain: the extension app_data_dictionary and
// the proposals AppDataUpdate and SelfRemove of draft-ietf-mls-extensions. ts-mls treats them as unknown: it carries
// the extension along, and cannot read the proposals.
const REQUIRED = { versions: ["mls10"], extensions: [0x0006], proposals: [0x0008, 0x000a], credentials: ["basic"] }

const toHex = (bytes) => Buffer.from(bytes).toString("hex")
const fromHex = (text) => new Uint8Array(Buffer.from(text, "hex"))
const message = (content) => toHex(mls.encodeMlsMessage({ version: "mls10", ...content }))

function decoded(decode, text) {
  const bytes = fromHex(text)
  const result = decode(bytes, 0)
  if (result === undefined || result[1] !== bytes.length) throw new Error("not one whole struct")
  return result[0]
}

const read = (text) => decoded(mls.decodeMlsMessage, text)
const readTree = (text) => (text === null ? undefined : decoded(decodeRatchetTree, text))

// RFC 9420 section 12.4.3.2: "struct { HPKEPublicKey external_pub; } ExternalPub;", and an HPKEPublicKey is
// "opaque HPKEPublicKey<V>". ts-mls 1.6 puts the bare key there, both when it writes and when it reads.
const KEY_LENGTHS = new Set([32, 65]) // X25519 and P-256; the second needs two octets for its length
const wrapKey = (key) =>
  Uint8Array.from(key.length < 64 ? [key.length, ...key] : [0x40 | (key.length >> 8), key.length & 0xff, ...key])

function unwrapKey(data) {
  const wide = data[0] >> 6 === 1
  const key = data.slice(wide ? 2 : 1)
  const length = wide ? ((data[0] & 0x3f) << 8) | data[1] : data[0]
  if (key.length !== length || !KEY_LENGTHS.has(length)) throw new Error("not an HPKEPublicKey")
  return key
}

// The ciphersuite, but with the key inside of `external_pub` where ts-mls takes the extension for the key.
function readingExternalPub(suite, groupInfo) {
  const wrapped = groupInfo.extensions.find((extension) => extension.extensionType === "external_pub")?.extensionData
  if (wrapped === undefined) return suite
  const importPublicKey = (key) => suite.hpke.importPublicKey(key === wrapped ? unwrapKey(wrapped) : key)
  return { ...suite, hpke: { ...suite.hpke, importPublicKey } }
}

const members = new Map()

// What ts-mls takes for the leaf of the same client: one with the same identity, whatever its keys are.
const sameIdentity = (one, other) =>
  Buffer.from(one.leafNode.credential.identity).equals(Buffer.from(other.credential.identity))

const OPERATIONS = {
  async new(_, { identity, suite, plain }) {
    const name = SUITES[suite]
    const clientConfig = {
      keyRetentionConfig: mls.defaultKeyRetentionConfig,
      lifetimeConfig: { maximumTotalLifetime: 84n * 24n * 3600n, validateLifetimeOnReceive: true },
      keyPackageEqualityConfig: mls.defaultKeyPackageEqualityConfig,
      paddingConfig: mls.defaultPaddingConfig,
      authService: mls.defaultAuthenticationService,
    }
    members.set(members.size, {
      suite: await mls.getCiphersuiteImpl(mls.getCiphersuiteFromName(name)),
      credential: { credentialType: "basic", identity: fromHex(identity) },
      capabilities: plain ? mls.defaultCapabilities() : { ...REQUIRED, ciphersuites: [name] },
      clientConfig,
    })
    return { member: members.size - 1 }
  },

  async key_package(member, { not_before, not_after }) {
    const lifetime = { notBefore: BigInt(not_before), notAfter: BigInt(not_after) }
    member.keys = await mls.generateKeyPackage(member.credential, member.capabilities, lifetime, [], member.suite)
    return { message: message({ wireformat: "mls_key_package", keyPackage: member.keys.publicPackage }) }
  },

  async create_group(member, { group_id, extensions }) {
    const { publicPackage, privatePackage } = member.keys
    member.state = await mls.createGroup(
      fromHex(group_id), publicPackage, privatePackage, extensions.map((data) => decoded(decodeExtension, data)),
      member.suite, member.clientConfig,
    )
    return {}
  },

  async join_welcome(member, { welcome, tree }) {
    const { publicPackage, privatePackage } = member.keys
    member.state = await mls.joinGroup(
      read(welcome).welcome, publicPackage, privatePackage, mls.emptyPskIndex, member.suite, readTree(tree),
      undefined, member.clientConfig,
    )
    return {}
  },

  async join_external(member, { group_info, tree, replace }) {
    const { publicPackage, privatePackage } = member.keys
    const { groupInfo } = read(group_info)
    const keyPackageEqualityConfig = { ...member.clientConfig.keyPackageEqualityConfig }
    keyPackageEqualityConfig.compareKeyPackageToLeafNode = sameIdentity
    const { publicMessage, newState } = await mls.joinGroupExternal(
      groupInfo, publicPackage, privatePackage, replace, readingExternalPub(member.suite, groupInfo), readTree(tree),
      { ...member.clientConfig, keyPackageEqualityConfig },
    )
    member.state = undefined
    member.pending = { ...newState, clientConfig: member.clientConfig }
    return { commit: message({ wireformat: "mls_public_message", publicMessage }) }
  },

  async commit(member, { add, remove, tree_inside, aad }) {
    const { commit, welcome, newState } = await mls.createCommit(
      { state: member.state, cipherSuite: member.suite },
      {
        wireAsPublicMessage: true,
        extraProposals: [
          ...add.map((data) => ({ proposalType: "add", add: { keyPackage: read(data).keyPackage } })),
          ...remove.map((removed) => ({ proposalType: "remove", remove: { removed } })),
        ],
        ratchetTreeExtension: tree_inside,
        authenticatedData: fromHex(aad),
      },
    )
    member.pending = newState
    return {
      commit: message(commit),
      welcome: welcome === undefined ? null : message({ wireformat: "mls_welcome", welcome }),
      tree: toHex(encodeRatchetTree(newState.ratchetTree)),
    }
  },

  async propose(member, { add, remove }) {
    const proposal =
      add === null
        ? { proposalType: "remove", remove: { removed: remove } }
        : { proposalType: "add", add: { keyPackage: read(add).keyPackage } }
    const { newState, message: sent } = await mls.createProposal(member.state, true, proposal, member.suite)
    member.state = newState
    return { message: message(sent) }
  },

  async merge(member) {
    if (member.pending === undefined) throw new Error("no commit is pending")
    member.state = member.pending
    member.pending = undefined
    return {}
  },

  async process(member, { message: data }) {
    const result = await mls.processMessage(
      read(data), member.state, mls.emptyPskIndex, mls.acceptAll, member.suite,
    )
    member.state = result.newState
    member.pending = undefined
    return {
      plaintext: result.kind === "applicationMessage" ? toHex(result.message) : null,
      removed: member.state.groupActiveState.kind === "removedFromGroup",
    }
  },

  async encrypt(member, { plaintext, aad }) {
    const { newState, privateMessage } = await mls.createApplicationMessage(
      member.state, fromHex(plaintext), member.suite, fromHex(aad),
    )
    member.state = newState
    return { message: message({ wireformat: "mls_private_message", privateMessage }) }
  },

  async group({ state }) {
    return {
      epoch: Number(state.groupContext.epoch),
      leaf: state.privatePath.leafIndex,
      group_context: toHex(encodeGroupContext(state.groupContext)),
      tree_hash: toHex(state.groupContext.treeHash),
      confirmed_transcript_hash: toHex(state.groupContext.confirmedTranscriptHash),
      tree: toHex(encodeRatchetTree(state.ratchetTree)),
    }
  },

  async group_info({ state, suite }) {
    const { publicKey } = await suite.hpke.deriveKeyPair(state.keySchedule.externalSecret)
    const extension = {
      extensionType: "external_pub",
      extensionData: wrapKey(await suite.hpke.exportPublicKey(publicKey)),
    }
    const groupInfo = await createGroupInfo(state.groupContext, state.confirmationTag, state, [extension], suite)
    return { message: message({ wireformat: "mls_group_info", groupInfo }) }
  },

  // For a member of suite 1 that is made by hand from here on. An Ed25519 key is its seed, which a PKCS #8 ends with.
  async secrets({ state }) {
    return {
      signature_key: toHex(state.signaturePrivateKey.slice(-32)),
      membership_key: toHex(state.keySchedule.membershipKey),
      init_secret: toHex(state.keySchedule.initSecret),
      confirmation_tag: toHex(state.confirmationTag),
    }
  },

  async export_secret({ state, suite }, { label, context, length }) {
    const { exporterSecret } = state.keySchedule
    return { secret: toHex(await mls.mlsExporter(exporterSecret, label, fromHex(context), length, suite)) }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const request = JSON.parse(line)
    answer = { value: await OPERATIONS[request.op](members.get(request.member), request) }
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
