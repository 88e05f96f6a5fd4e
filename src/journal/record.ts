/**
 * What a journal record holds (FORMAT.md draws the bytes). A record is one inlet event: a run of PUBLISH packets as
 * they stood in one socket read, one HTTP body, a replayed dead letter, or the mark that closes a slice.
 */

/** Formats of a body, stored in the record's `kind` byte. Numbers never change. */
export const RecordKind = {
  /** A run of whole MQTT PUBLISH packets of one connection, tenant-relative topics, as received. */
  mqttPublishes: 1,
  /** One body whose content says what it is: JSON reading, array of readings, SenML JSON or SenML CBOR. */
  bodyAuto: 2,
  /** Newline-delimited JSON readings. */
  bodyNdjson: 3,
  /** SenML JSON (RFC 8428). */
  bodySenmlJson: 4,
  /** SenML CBOR (RFC 8428). */
  bodySenmlCbor: 5,
  /** CBOR with the shapes of JSON readings. */
  bodyCbor: 6,
  /**
   * A run of whole MQTT PUBLISH packets that are no telemetry: reported state, answers to commands, events. Topics are written out
   * (`devices/{id}/…`). For the applier (src/inlet), not for the packer.
   */
  deviceMessages: 7,
  /** A change of a twin is about to be committed by this node (src/inlet): after a crash its events are told again. */
  intent: 8,
  /** Closes a slice: all records since the previous mark. Body: see `SliceMark`. */
  mark: 64
} as const
export type RecordKind = typeof RecordKind[keyof typeof RecordKind]

/** Bits of the record's `flags` byte. */
export const RecordFlags = {
  /** The readings of the body may name their device (`device` field): an HTTP batch of an application. */
  multiDevice: 1,
  /** The principal is a gateway: topics may name its registered devices, already checked at the gate. */
  gateway: 2,
  /** A replay of a dead letter: its stamp is the original one. */
  replay: 4,
  /**
   * The stamp was reserved before, and other journals may hold the same request under it: readings without `ts` get stamp
   * plus index exactly, whatever else is in the slice, so that they are the same points in every journal.
   */
  reserved: 8
} as const

/** Who sent a record. All strings are ASCII. */
export interface RecordIdentity {
  readonly tenant: string
  /** The device that a body without a device of its own belongs to; '' where there is none. */
  readonly device: string
  /** Idempotency key with credential prefix, '' where none; and the body's fingerprint. */
  readonly idempotencyKey: string
  readonly fingerprint: string
}

/** Size of a record's fixed header; identity and body follow. */
export const recordHeaderBytes = 24

export interface SliceMark {
  /** Positions in the journal: the slice is every record in [from, to); the mark record itself stands at `to`. */
  readonly from: number
  readonly to: number
  /** Records in the slice, marks not counted. */
  readonly records: number
  /** Accept stamp of the mark: above all of the slice. */
  readonly stamp: number
}

/** Encodes tenant, device, idempotency key and fingerprint as four length-prefixed ASCII strings. */
export function encodeIdentity (identity: RecordIdentity): Buffer {
  const { tenant, device, idempotencyKey, fingerprint } = identity
  const bytes = Buffer.allocUnsafe(4 + tenant.length + device.length + idempotencyKey.length + fingerprint.length)
  let at = 0
  for (const text of [tenant, device, idempotencyKey, fingerprint]) {
    bytes[at++] = text.length
    at += bytes.write(text, at, 'latin1')
  }
  return bytes
}

export function decodeIdentity (bytes: Buffer): RecordIdentity {
  const texts: string[] = []
  let at = 0
  for (let i = 0; i < 4; i++) {
    const length = bytes[at++]
    texts.push(bytes.toString('latin1', at, at + length))
    at += length
  }
  return { tenant: texts[0], device: texts[1], idempotencyKey: texts[2], fingerprint: texts[3] }
}
