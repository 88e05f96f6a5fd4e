/** Puts events that were read into the order of their numbers, where two nodes told of one sequence in another order. */
import type { LoggedEvent } from './event-log.js'

/**
 * Events of one sequence in the order of their numbers, in the places that they have; the others stay. `events` is in the order of positions.
 * The position of each is such that whoever goes on from there is told of everything that stands behind it here, some perhaps again.
 * @param after the position that they were read from
 */
export function inSequence (events: readonly LoggedEvent[], after: string): readonly LoggedEvent[] {
  const places = new Map<string, number[]>()
  let ordered = true
  events.forEach(({ event }, i) => {
    if (event.sequence === undefined) return
    const name = `${event.tenant}\0${event.device}\0${event.sequence.of}`
    const list = places.get(name)
    if (list === undefined) {
      places.set(name, [i])
    } else {
      ordered &&= numberAt(events, list[list.length - 1]) <= event.sequence.number
      list.push(i)
    }
  })
  if (ordered) return events
  const from = events.map((_, i) => i)
  for (const list of places.values()) {
    const sorted = [...list].sort((a, b) => numberAt(events, a) - numberAt(events, b))
    list.forEach((place, i) => { from[place] = sorted[i] })
  }
  // Up to which place everything has been handed out, when this one has.
  const handed = new Set<number>()
  let complete = -1
  let position = after
  return from.map(source => {
    handed.add(source)
    while (handed.delete(complete + 1)) position = events[++complete].position
    return { position, event: events[source].event }
  })
}

function numberAt (events: readonly LoggedEvent[], i: number): number {
  return events[i].event.sequence?.number ?? 0
}
