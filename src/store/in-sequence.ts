/**
 * Puts events that were read into the order of their numbers, where nodes whose clocks differ told of one sequence in another order.
 *
 * In a log of several writers an event with a lower number may stand behind one with a higher, by a window at most. So in front of an event
 * go the lower numbers of its sequence that stand within the window behind it, in the page or ahead of it; what was put there from within
 * the page is left out at its own place. What came from ahead of the page comes again in its place, as it does to a reader that goes on from
 * the middle of a page: who reads knows nothing of other reads, and a row that shows up late can hide nothing.
 *
 * Promise: readers that go on from the position of any event here, or of the page, are told of everything behind it, some perhaps again;
 * and where no first telling stands further behind a higher number than the window, the first ones come in the order of their numbers.
 */
import type { LoggedEvent, OutEvent } from './event-log.js'

export interface PlacedEvent extends LoggedEvent {
  /** By which the log is ordered, µs. */
  readonly placedUs: number
}

export interface InSequenceOptions {
  /** The position that the page was read from. */
  readonly after: string
  /** The position up to which the page was read. */
  readonly end: string
  /** @see PlacedEvent.placedUs */
  readonly windowUs: number
  /** At least 1. More come only where more belong before one event: they stay together, so that every page gets on. */
  readonly limit: number
}

/**
 * @param events the page, in the order of positions
 * @param ahead of what stands behind the page, in the same order, at least what `belongsBefore` some of it within the window
 */
export function inSequence (events: readonly PlacedEvent[], ahead: readonly PlacedEvent[], { after, end, windowUs, limit }: InSequenceOptions): { readonly events: readonly LoggedEvent[], readonly position: string } {
  const all = [...events, ...ahead]
  const displaced = displacedIn(all, events.length, windowUs)
  const before = new Map<number, number[]>()
  for (const [i, target] of displaced) {
    const group = before.get(target)
    if (group === undefined) before.set(target, [i])
    else group.push(i)
  }
  const ordered: LoggedEvent[] = []
  let position = after
  for (let i = 0; i < events.length; i++) {
    if (displaced.has(i)) continue
    const group = before.get(i) ?? []
    if (ordered.length > 0 && ordered.length + group.length + 1 > limit) return { events: ordered, position }
    // Who stands at their position gets all of them, and the event that they belong before.
    for (const j of group.sort((a, b) => numberOf(all[a]) - numberOf(all[b]) || a - b)) ordered.push({ position, event: all[j].event })
    position = events[i].position
    ordered.push({ position, event: events[i].event })
  }
  return { events: ordered, position: end }
}

/** Which of what stands behind the page may belong before one of its events; null: nothing does. */
export function belongsBefore (events: readonly LoggedEvent[]): ((event: OutEvent) => boolean) | null {
  const highest = new Map<string, number>()
  for (const { event } of events) {
    if (event.sequence !== undefined) highest.set(nameOf(event), Math.max(highest.get(nameOf(event)) ?? -Infinity, event.sequence.number))
  }
  if (highest.size === 0) return null
  return event => event.sequence !== undefined && event.sequence.number < (highest.get(nameOf(event)) ?? -Infinity)
}

/** Where the displaced go: right before the first higher number in the window that itself stays, among the first `pageEvents`. */
function displacedIn (all: readonly PlacedEvent[], pageEvents: number, windowUs: number): ReadonlyMap<number, number> {
  const displaced = new Map<number, number>()
  const sequences = new Map<string, { highest: number, staying: number[], from: number }>()
  all.forEach((placed, i) => {
    if (placed.event.sequence === undefined) return
    const name = nameOf(placed.event)
    const number = numberOf(placed)
    let sequence = sequences.get(name)
    if (sequence === undefined) sequences.set(name, sequence = { highest: number, staying: [], from: 0 })
    const { staying } = sequence
    if (number < sequence.highest) {
      while (sequence.from < staying.length && all[staying[sequence.from]].placedUs < placed.placedUs - windowUs) sequence.from++
      for (let at = sequence.from; at < staying.length; at++) {
        if (numberOf(all[staying[at]]) <= number) continue
        displaced.set(i, staying[at])
        return
      }
    }
    sequence.highest = Math.max(sequence.highest, number)
    if (i < pageEvents) staying.push(i)
  })
  return displaced
}

function nameOf ({ tenant, device, sequence }: OutEvent): string {
  return `${tenant}\0${device}\0${sequence?.of}`
}

function numberOf ({ event }: PlacedEvent): number {
  return event.sequence?.number ?? 0
}
