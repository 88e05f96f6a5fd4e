/**
 * The calls by which the journal changes files, as a port: tests replace it by one that fails. Callbacks, not promises:
 * this is the commit path. A failed `fdatasync` is never repeated on the same file (DESIGN 3.1): after it the kernel may
 * have dropped the pages and report success (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
 */
import * as fs from 'node:fs'
import { dirname } from 'node:path'

export type Done = (error: NodeJS.ErrnoException | null) => void

export interface JournalFileSystem {
  /** Creates a file that must not exist yet and opens it for writing. */
  create(path: string, done: (error: NodeJS.ErrnoException | null, file: number) => void): void
  /** Writes at an offset; may write less than it was given. */
  write(file: number, pieces: readonly Uint8Array[], offset: number, done: (error: NodeJS.ErrnoException | null, written: number) => void): void
  /** The file's bytes and size are on stable storage. */
  sync(file: number, done: Done): void
  /** The directory's names are on stable storage. */
  syncDirectory(directory: string, done: Done): void
  truncate(file: number, length: number, done: Done): void
  close(file: number, done: Done): void
  remove(path: string, done: Done): void
}

export const nodeFileSystem: JournalFileSystem = {
  create: (path, done) => { fs.open(path, 'wx', 0o640, done) },
  write: (file, pieces, offset, done) => { fs.writev(file, pieces, offset, done) },
  sync: (file, done) => { fs.fdatasync(file, done) },
  syncDirectory: (directory, done) => {
    fs.open(directory, 'r', (error, file) => {
      if (error !== null) return done(error)
      fs.fsync(file, failure => { fs.close(file, () => { done(failure) }) })
    })
  },
  truncate: (file, length, done) => { fs.ftruncate(file, length, done) },
  close: (file, done) => { fs.close(file, done) },
  remove: (path, done) => { fs.unlink(path, done) }
}

/** Writes all pieces and syncs; goes on after a short write where it stopped. */
export function writeAndSync (system: JournalFileSystem, file: number, pieces: readonly Uint8Array[], offset: number, done: Done): void {
  let left = pieces
  let at = offset
  let bytes = 0
  for (const piece of pieces) bytes += piece.length
  const step = (error: NodeJS.ErrnoException | null, written: number): void => {
    if (error !== null) return done(error)
    if (written === 0 && bytes > 0) return done(Object.assign(new Error('a write took nothing'), { code: 'EIO' }))
    bytes -= written
    at += written
    if (bytes === 0) return system.sync(file, done)
    left = dropBytes(left, written)
    system.write(file, left, at, step)
  }
  system.write(file, left, at, step)
}

function dropBytes (pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  let i = 0
  let drop = count
  while (drop >= pieces[i].length) drop -= pieces[i++].length
  const left = pieces.slice(i)
  left[0] = left[0].subarray(drop)
  return left
}

export interface NewSegment {
  readonly path: string
  readonly header: Uint8Array
  /** Bytes written behind the header and cut off again, to learn whether there is room before anything is accepted. */
  readonly probeBytes: number
}

/**
 * Creates a segment; when it is done, the header and the name are on stable storage. On failure the file is removed
 * where possible.
 */
export function createSegment (system: JournalFileSystem, { path, header, probeBytes }: NewSegment, done: (error: Error | null, file: number) => void): void {
  system.create(path, (failure, file) => {
    if (failure !== null) return done(failure, -1)
    const fail = (error: Error): void => {
      system.close(file, () => { system.remove(path, () => { done(error, -1) }) })
    }
    const pieces = probeBytes === 0 ? [header] : [header, new Uint8Array(probeBytes)]
    writeAndSync(system, file, pieces, 0, error => {
      if (error !== null) return fail(error)
      const named = (): void => {
        system.syncDirectory(dirname(path), notSynced => {
          if (notSynced !== null) return fail(notSynced)
          done(null, file)
        })
      }
      if (probeBytes === 0) return named()
      system.truncate(file, header.length, notCut => {
        if (notCut !== null) return fail(notCut)
        named()
      })
    })
  })
}
