/**
 * A file system that fails as told: short writes, errors of write, sync and creation. It knows what is on stable storage,
 * and after `powerLoss` only that is sure to be there. Works on real files, so that the readers read what was written.
 */
import { closeSync, existsSync, ftruncateSync, openSync, readFileSync, truncateSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import type { JournalFileSystem } from '../../src/journal/file-system.js'

export type FaultPoint = 'create' | 'write' | 'sync' | 'syncDirectory' | 'truncate' | 'remove'

interface OpenFile { readonly path: string, readonly file: number }

export class FaultyFileSystem implements JournalFileSystem {
  /** Error code to fail with, null to succeed. Called at each operation. */
  fault: (point: FaultPoint) => string | null = () => null
  /** Part of a write that is done: 1 is all. */
  writePart: () => number = () => 1
  crashed = false
  syncs = 0
  readonly #open = new Map<number, OpenFile>()
  /** Bytes per path that are on stable storage. */
  readonly #syncedBytes = new Map<string, number>()
  /** Paths whose name is not on stable storage. */
  readonly #unnamed = new Set<string>()
  readonly #random: () => number

  /** @param random decides how much of a write that fails reached the file */
  constructor (random: () => number = () => 0.5) {
    this.#random = random
  }

  #later (act: () => void): void {
    setImmediate(() => { if (!this.crashed) act() })
  }

  #error (point: FaultPoint): NodeJS.ErrnoException | null {
    const code = this.fault(point)
    if (code === null) return null
    return Object.assign(new Error(`${code}: injected`), { code, syscall: point === 'sync' ? 'fdatasync' : point })
  }

  create (path: string, done: (error: NodeJS.ErrnoException | null, file: number) => void): void {
    this.#later(() => {
      const error = this.#error('create')
      if (error !== null) return done(error, -1)
      let file: number
      try {
        file = openSync(path, 'wx')
      } catch (failure) {
        return done(failure as NodeJS.ErrnoException, -1)
      }
      this.#open.set(file, { path, file })
      this.#syncedBytes.set(path, 0)
      this.#unnamed.add(path)
      done(null, file)
    })
  }

  write (file: number, pieces: readonly Uint8Array[], offset: number, done: (error: NodeJS.ErrnoException | null, written: number) => void): void {
    this.#later(() => {
      const bytes = Buffer.concat(pieces)
      const error = this.#error('write')
      const part = Math.max(1, Math.floor(bytes.length * (error === null ? this.writePart() : this.#random())))
      writeSync(file, bytes, 0, Math.min(part, bytes.length), offset)
      const { path } = this.#open.get(file) as OpenFile
      this.#syncedBytes.set(path, Math.min(this.#syncedBytes.get(path) ?? 0, offset))
      if (error !== null) return done(error, 0)
      done(null, Math.min(part, bytes.length))
    })
  }

  sync (file: number, done: (error: NodeJS.ErrnoException | null) => void): void {
    this.#later(() => {
      this.syncs++
      const error = this.#error('sync')
      const { path } = this.#open.get(file) as OpenFile
      if (error === null) this.#syncedBytes.set(path, readFileSync(path).length)
      done(error)
    })
  }

  syncDirectory (_directory: string, done: (error: NodeJS.ErrnoException | null) => void): void {
    this.#later(() => {
      const error = this.#error('syncDirectory')
      if (error === null) this.#unnamed.clear()
      done(error)
    })
  }

  truncate (file: number, length: number, done: (error: NodeJS.ErrnoException | null) => void): void {
    this.#later(() => {
      const error = this.#error('truncate')
      if (error === null) {
        ftruncateSync(file, length)
        const { path } = this.#open.get(file) as OpenFile
        this.#syncedBytes.set(path, Math.min(this.#syncedBytes.get(path) ?? 0, length))
      }
      done(error)
    })
  }

  close (file: number, done: (error: NodeJS.ErrnoException | null) => void): void {
    this.#later(() => {
      closeSync(file)
      this.#open.delete(file)
      done(null)
    })
  }

  remove (path: string, done: (error: NodeJS.ErrnoException | null) => void): void {
    this.#later(() => {
      const error = this.#error('remove')
      if (error === null) unlinkSync(path)
      done(error)
    })
  }

  /** The process is gone: no call does anything any more, and none returns. */
  kill (): void {
    this.crashed = true
    for (const { file } of this.#open.values()) closeSync(file)
    this.#open.clear()
  }

  /** The machine is gone: of what was not synced any part may be there, whole, cut or garbled. Call after `kill`. */
  powerLoss (random: () => number): void {
    for (const [path, synced] of this.#syncedBytes) {
      if (!existsSync(path)) continue
      if (this.#unnamed.has(path) && random() < 0.5) {
        unlinkSync(path)
        continue
      }
      const bytes = readFileSync(path)
      if (bytes.length <= synced) continue
      const choice = random()
      if (choice < 0.4) truncateSync(path, synced + Math.floor(random() * (bytes.length - synced + 1)))
      else if (choice < 0.7) writeFileSync(path, garbled(bytes, synced, random))
    }
  }
}

function garbled (bytes: Buffer, from: number, random: () => number): Buffer {
  const copy = Buffer.from(bytes)
  const start = from + Math.floor(random() * (copy.length - from))
  copy.fill(random() < 0.5 ? 0 : 0xa5, start, start + Math.floor(random() * (copy.length - start + 1)))
  return copy
}
