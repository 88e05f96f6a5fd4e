/**
 * An outbox entry as bytes: the keys of the rows of one write. Version 1: the byte 1, then deflated: the texts (tenants,
 * devices, journals) in order of first appearance, the number of chunks, theirs, the number of slabs, theirs. Numbers are
 * varints; those that resemble their neighbour's are written as differences from it. Version 2: the same, then the sealed bucket:
 * tenant, device, start, width.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { TwinfoldError } from '../core/errors.js'
import { ByteReader, ByteWriter } from '../series/columns/bytes.js'
import type { BucketWidthMinutes } from '../series/partition-plan.js'
import type { OutboxEntry } from './outbox.js'
import type { HeadWrite } from './raw-store.js'

const rowsVersion = 1
const sealedVersion = 2

export type EntryRows = Pick<OutboxEntry, 'chunks' | 'slabs' | 'sealed'>
/** What an entry says of a `HeadWrite`, or of a seal. */
export type EntrySource = Pick<HeadWrite, 'chunks' | 'slabs'> & Pick<OutboxEntry, 'sealed'>

function damaged (what: string): TwinfoldError {
  return new TwinfoldError('corrupt_data', `the store gave ${what}`)
}

/** Writes each text once and its number from then on; differences from the last number of the same kind. */
class EntryWriter {
  readonly rows = new ByteWriter(4096)
  readonly #texts = new Map<string, number>()
  readonly #last: number[] = []

  text (text: string): void {
    let number = this.#texts.get(text)
    if (number === undefined) this.#texts.set(text, number = this.#texts.size)
    this.difference(0, number)
  }

  difference (kind: number, value: number): void {
    this.rows.signed(value - (this.#last[kind] ?? 0))
    this.#last[kind] = value
  }

  take (version: number): Buffer {
    const texts = Buffer.from([...this.#texts.keys()].join('\0'))
    const head = new ByteWriter(16)
    head.varint(texts.length)
    return Buffer.concat([Buffer.of(version), deflateRawSync(Buffer.concat([head.take(), texts, this.rows.take()]), { level: 1 })])
  }
}

class EntryReader {
  readonly rows: ByteReader
  readonly version: number
  readonly #texts: string[]
  readonly #last: number[] = []

  constructor (bytes: Buffer) {
    this.version = bytes[0]
    if (this.version !== rowsVersion && this.version !== sealedVersion) throw damaged(`an outbox entry of version ${bytes[0]}`)
    this.rows = new ByteReader(inflateRawSync(bytes.subarray(1)))
    const { bytes: all, at, end } = this.rows.part()
    this.#texts = Buffer.from(all.subarray(at, end)).toString().split('\0')
  }

  text (): string {
    const text = this.#texts[this.difference(0)]
    if (text === undefined) throw damaged('an outbox entry whose texts are incomplete')
    return text
  }

  difference (kind: number): number {
    const value = (this.#last[kind] ?? 0) + this.rows.signed()
    this.#last[kind] = value
    return value
  }
}

/** Kinds of numbers whose differences are taken; 0 is the texts'. */
const Kind = { mark: 1, start: 2, minTs: 3, minute: 4, stamp: 5, part: 6 } as const

export function encodeEntry (write: EntrySource): Buffer {
  const writer = new EntryWriter()
  const { rows } = writer
  rows.varint(write.chunks.length)
  for (const { tenant, device, bucket, salt, slice, part, minTs, maxTs } of write.chunks) {
    writer.text(tenant)
    writer.text(device)
    writer.text(slice.journalId)
    writer.difference(Kind.mark, slice.mark)
    writer.difference(Kind.start, bucket.start)
    writer.difference(Kind.minTs, minTs)
    writer.difference(Kind.part, part)
    rows.varint(maxTs - minTs)
    rows.varint(bucket.widthMinutes)
    rows.varint(salt)
  }
  rows.varint(write.slabs.length)
  for (const { tenant, shard, minute, slice, stamp } of write.slabs) {
    writer.text(tenant)
    writer.text(slice.journalId)
    writer.difference(Kind.mark, slice.mark)
    writer.difference(Kind.minute, minute)
    // -1: the acceptance is unknown.
    writer.difference(Kind.stamp, stamp ?? -1)
    rows.varint(shard)
  }
  const { sealed } = write
  if (sealed === undefined) return writer.take(rowsVersion)
  writer.text(sealed.tenant)
  writer.text(sealed.device)
  writer.difference(Kind.start, sealed.bucket.start)
  rows.varint(sealed.bucket.widthMinutes)
  return writer.take(sealedVersion)
}

/** @throws TwinfoldError `corrupt_data` */
export function decodeEntry (bytes: Buffer): EntryRows {
  const reader = new EntryReader(bytes)
  const { rows } = reader
  const chunks = Array.from({ length: rows.varint() }, () => {
    const tenant = reader.text()
    const device = reader.text()
    const slice = { journalId: reader.text(), mark: reader.difference(Kind.mark) }
    const start = reader.difference(Kind.start)
    const minTs = reader.difference(Kind.minTs)
    const part = reader.difference(Kind.part)
    const maxTs = minTs + rows.varint()
    const bucket = { start, widthMinutes: rows.varint() as BucketWidthMinutes }
    return { tenant, device, bucket, salt: rows.varint(), slice, part, minTs, maxTs }
  })
  const slabs = Array.from({ length: rows.varint() }, () => {
    const tenant = reader.text()
    const slice = { journalId: reader.text(), mark: reader.difference(Kind.mark) }
    const minute = reader.difference(Kind.minute)
    const stamp = reader.difference(Kind.stamp)
    return { tenant, shard: rows.varint(), minute, slice, ...(stamp === -1 ? {} : { stamp }) }
  })
  if (reader.version === rowsVersion) return { chunks, slabs }
  const tenant = reader.text()
  const device = reader.text()
  const start = reader.difference(Kind.start)
  return { chunks, slabs, sealed: { tenant, device, bucket: { start, widthMinutes: rows.varint() as BucketWidthMinutes } } }
}
