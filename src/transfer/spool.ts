/**
 * The files of imports on this node's disk, from the upload until the job is finished. Bounded: bytes of one file, of all files, and
 * the room that they leave to the journal. A file is whole and on stable storage before its job is there, and a file without an
 * open job is removed at the start.
 */
import { createWriteStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { TwinfoldError } from '../core/errors.js'

export interface SpoolOptions {
  readonly directory: string
  readonly fileBytesMax: number
  readonly allBytesMax: number
  /** Free bytes of the disk that an upload leaves. */
  readonly freeBytesMin: number
}

const suffix = '.import'
const partSuffix = '.part'
/** How often the free space is looked at, bytes. */
const lookEveryBytes = 32 * 1024 * 1024

export class Spool {
  readonly #options: SpoolOptions
  #bytes = 0

  constructor (options: SpoolOptions) {
    this.#options = options
  }

  /** Bytes of all files, uploads under way included. */
  get bytes (): number { return this.#bytes }

  async open (isWanted: (id: string) => Promise<boolean>): Promise<void> {
    const { directory } = this.#options
    await mkdir(directory, { recursive: true })
    for (const name of await readdir(directory)) {
      const path = join(directory, name)
      if (name.endsWith(suffix) && await isWanted(name.slice(0, -suffix.length))) this.#bytes += (await stat(path)).size
      else if (name.endsWith(suffix) || name.endsWith(partSuffix)) await rm(path, { force: true })
    }
  }

  path (id: string): string { return join(this.#options.directory, `${id}${suffix}`) }

  async has (id: string): Promise<boolean> {
    return await stat(this.path(id)).then(() => true, () => false)
  }

  /**
   * Writes the stream to the file of the id; returns its bytes, unpacked where `gzip`.
   * @throws TwinfoldError `payload_too_large`, `limit_reached` (disk), `invalid_request` (the stream broke off, or is no gzip).
   */
  async write (id: string, stream: Readable, { gzip }: { readonly gzip: boolean }): Promise<number> {
    const { directory } = this.#options
    const part = join(directory, `${id}${partSuffix}`)
    const counter = new Transform({ transform: (chunk: Buffer, _encoding, done) => { this.#take(chunk, counted).then(() => { done(null, chunk) }, done) } })
    const counted = { bytes: 0, lookAt: 0 }
    try {
      const target = createWriteStream(part, { flags: 'wx' })
      if (gzip) await pipeline(stream, createGunzip(), counter, target)
      else await pipeline(stream, counter, target)
      const file = await open(part, 'r+')
      await file.sync()
      await file.close()
      await rename(part, this.path(id))
      const folder = await open(directory, 'r')
      await folder.sync()
      await folder.close()
      return counted.bytes
    } catch (error) {
      this.#bytes -= counted.bytes
      await rm(part, { force: true })
      throw this.#named(error)
    }
  }

  async #take (chunk: Buffer, counted: { bytes: number, lookAt: number }): Promise<void> {
    const { fileBytesMax, allBytesMax, freeBytesMin, directory } = this.#options
    counted.bytes += chunk.length
    this.#bytes += chunk.length
    if (counted.bytes > fileBytesMax) throw new TwinfoldError('payload_too_large', `an import holds at most ${fileBytesMax} bytes, unpacked; split it`)
    if (this.#bytes > allBytesMax) throw new TwinfoldError('limit_reached', `${allBytesMax} bytes of imports wait on this node already; try again when some are done`)
    if (counted.bytes < counted.lookAt) return
    counted.lookAt = counted.bytes + lookEveryBytes
    const { bavail, bsize } = await statfs(directory)
    if (bavail * bsize < freeBytesMin) throw new TwinfoldError('limit_reached', 'the disk of this node has no room for the import')
  }

  #named (error: unknown): unknown {
    if (error instanceof TwinfoldError) return error
    const { code = '' } = error as { code?: string }
    if (code.startsWith('Z_')) return new TwinfoldError('invalid_request', 'the body is not gzip, or ends early', { field: 'Content-Encoding' })
    if (code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ECONNRESET') return new TwinfoldError('invalid_request', 'the connection ended before the body did')
    if (code === 'ENOSPC') return new TwinfoldError('limit_reached', 'the disk of this node is full')
    return error
  }

  async remove (id: string): Promise<void> {
    const { size } = await stat(this.path(id)).catch(() => ({ size: 0 }))
    await rm(this.path(id), { force: true })
    this.#bytes = Math.max(0, this.#bytes - size)
  }
}
