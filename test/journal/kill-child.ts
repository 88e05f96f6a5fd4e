/**
 * Appends without end and reports what is committed, one line per commit turn, until it is killed (kill.test.ts).
 *
 *   node kill-child.js <directory> <name>
 */
import { writeSync } from 'node:fs'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openJournal } from '../../src/journal/journal.js'
import type { CommitWaiter } from '../../src/journal/journal-types.js'
import { appendText } from './journal-support.js'

const [directory, name] = process.argv.slice(2)
const journal = await openJournal({ directory, clock: systemClock, log: silentLog, diskBytesMax: 256 * 1024 * 1024, segmentBytesMax: 200_000, sliceBytesMax: 50_000 })
let next = 0
let reported = -1

const append = (): void => {
  const size = 20 + (next * 7919) % 900
  appendText(journal, `${name}.${next}|`.padEnd(next % 97 === 0 ? 20_000 : size, '~'), waiter, next)
  next++
}
const waiter: CommitWaiter = {
  committed (token) {
    // Order is part of the promise, so the last number says it all.
    if (token !== reported + 1) throw new Error(`committed ${token} after ${reported}`)
    reported = token
    append()
    if (token % 10 === 0) writeSync(1, `${token}\n`)
  },
  failed (_token, error) { throw error }
}
for (let i = 0; i < 100; i++) append()
