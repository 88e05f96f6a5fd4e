/**
 * Ids of commands: the time of creation, so that they sort by age, and randomness, so that nobody guesses another's. Of the same
 * length always; the items of finished ones are keyed by the reverse, so that they are read newest first.
 */
const timeChars = 11
const randomChars = 12
const timeMax = 36 ** timeChars - 1
const pattern = new RegExp(`^[0-9a-z]{${timeChars + randomChars}}$`)

/** @param random as Math.random's, from a source that cannot be guessed */
export function newCommandId (createdAtUs: number, random: () => number): string {
  let tail = ''
  while (tail.length < randomChars) tail += Math.floor(random() * 36).toString(36)
  return createdAtUs.toString(36).padStart(timeChars, '0') + tail
}

export function isCommandId (value: unknown): value is string {
  return typeof value === 'string' && pattern.test(value)
}

/** Time of creation, µs. */
export function createdAtOf (id: string): number {
  return parseInt(id.slice(0, timeChars), 36)
}

function newestFirst (createdAtUs: number): string {
  return (timeMax - createdAtUs).toString(36).padStart(timeChars, '0')
}

export const pendingPrefix = 'p/'
export const finishedPrefix = 'f/'

export function pendingItem (id: string): string {
  return pendingPrefix + id
}

export function finishedItem (id: string): string {
  return `${finishedPrefix}${newestFirst(createdAtOf(id))}/${id}`
}

/** Everything finished that was created before the time comes after this. */
export function finishedBefore (createdAtUs: number): string {
  return `${finishedPrefix}${newestFirst(createdAtUs)}/`
}

export function keyItem (key: string): string {
  return `k/${key}`
}
