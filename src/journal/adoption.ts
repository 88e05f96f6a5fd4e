/**
 * The note in a journal's directory that its records are being packed, or were packed, by another machine (`twinfold journal
 * adopt`). A server does not start on such a directory: the node it belonged to is gone, and a second writer of one journal
 * would overwrite the rows of the first.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { TwinfoldError } from '../core/errors.js'
import { adoptionFileName } from './filenames.js'

export interface Adoption {
  /** `begun`: to be repeated until it is done. `done`: everything is in the store. */
  readonly state: 'begun' | 'done'
  readonly journalId: string
  /** Wall clock, µs. */
  readonly atUs: number
}

/** null where nobody adopted the journal. @throws TwinfoldError `corrupt_data` for a note that cannot be read. */
export function readAdoption (directory: string): Adoption | null {
  const path = join(directory, adoptionFileName)
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Adoption
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new TwinfoldError('corrupt_data', `${path} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

/** Replaces the note; it is on stable storage when this returns. */
export function writeAdoption (directory: string, adoption: Adoption): void {
  const path = join(directory, adoptionFileName)
  const file = openSync(`${path}.new`, 'w', 0o640)
  try {
    writeSync(file, `${JSON.stringify(adoption)}\n`)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameSync(`${path}.new`, path)
  const folder = openSync(directory, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

/** @throws TwinfoldError `already_exists` where somebody adopted the journal. */
export function assertNotAdopted (directory: string): void {
  const adoption = readAdoption(directory)
  if (adoption === null) return
  const since = new Date(adoption.atUs / 1000).toISOString()
  throw new TwinfoldError('already_exists', adoption.state === 'done'
    ? `journal ${adoption.journalId} in ${directory} was adopted at ${since}: everything in it is in the cluster's store; move the directory away to start this node with a new journal`
    : `the adoption of journal ${adoption.journalId} in ${directory} began at ${since} and is not done; finish it with 'twinfold journal adopt', then move the directory away`)
}
