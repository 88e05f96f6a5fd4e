/**
 * Walks the body of a journal record of kind `mqttPublishes`: whole MQTT 3.1.1 PUBLISH packets one after the other, as
 * they stood in one socket read. Promises: nothing is allocated, nothing outside [from, to) is read, and a run that does
 * not add up is reported by its offset instead of being guessed at.
 */

/** Called for each packet with the bounds of its topic and its payload in the body, ends exclusive. */
export type PublishVisit = (topicStart: number, topicEnd: number, payloadStart: number, payloadEnd: number) => void

/** MQTT 3.1.1 section 2.2.3: a remaining length has at most four bytes. */
const remainingLengthBytesMax = 4
/** Packet type 3 in the high nibble of the first byte (section 2.2.1). */
const publishType = 3

/**
 * Visits every PUBLISH in body[from, to) in order.
 *
 * @returns -1 when the whole run was visited; else the offset in `body` of the first packet that is no well-formed
 *   PUBLISH (wrong type, QoS 3, or lengths that do not fit), at which the walk stopped.
 */
export function forEachPublish (body: Buffer, from: number, to: number, visit: PublishVisit): number {
  let at = from
  while (at < to) {
    const start = at
    const first = body[at++]
    const qos = (first >> 1) & 3
    if (first >> 4 !== publishType || qos === 3) return start
    let remaining = 0
    let lengthBytes = 0
    let byte: number
    do {
      if (at >= to || lengthBytes === remainingLengthBytesMax) return start
      byte = body[at++]
      remaining += (byte & 0x7f) * (1 << (7 * lengthBytes))
      lengthBytes++
    } while (byte >= 0x80)
    const end = at + remaining
    if (end > to || remaining < 2) return start
    const topicStart = at + 2
    const topicEnd = topicStart + (body[at] << 8 | body[at + 1])
    const payloadStart = qos === 0 ? topicEnd : topicEnd + 2
    if (payloadStart > end) return start
    visit(topicStart, topicEnd, payloadStart, end)
    at = end
  }
  return -1
}
