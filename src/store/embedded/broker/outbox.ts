/** One session's queue in memory, by number, by packet identifier and by the broker's own packet identity. */
import type { Reference } from '../../broker/codec.js'

export interface OutboxEntry extends Reference {
  readonly number: number
  /** Connection (Session.connectionNumber) that it was last handed to; -1 where that was an earlier one or none. */
  sentOn: number
}

const identityOf = (brokerCounter: number, brokerHash: number): string => `${brokerCounter}:${brokerHash}`

export class Outbox {
  readonly #byNumber = new Map<number, OutboxEntry>()
  readonly #byMessageId = new Map<number, OutboxEntry>()
  readonly #byIdentity = new Map<string, OutboxEntry>()

  get size (): number { return this.#byNumber.size }

  has (number: number): boolean { return this.#byNumber.has(number) }

  add (entry: OutboxEntry): void {
    this.#byNumber.set(entry.number, entry)
    if (entry.messageId !== 0) this.#byMessageId.set(entry.messageId, entry)
    if (!entry.pubrel) this.#byIdentity.set(identityOf(entry.brokerCounter, entry.brokerHash), entry)
  }

  byNumber (number: number): OutboxEntry | undefined { return this.#byNumber.get(number) }

  byMessageId (messageId: number): OutboxEntry | undefined { return this.#byMessageId.get(messageId) }

  byIdentity (brokerCounter: number, brokerHash: number): OutboxEntry | undefined {
    return this.#byIdentity.get(identityOf(brokerCounter, brokerHash))
  }

  setMessageId (entry: OutboxEntry, messageId: number): void {
    if (this.#byMessageId.get(entry.messageId) === entry) this.#byMessageId.delete(entry.messageId)
    entry.messageId = messageId
    this.#byMessageId.set(messageId, entry)
  }

  setPubrel (entry: OutboxEntry): void {
    entry.pubrel = true
    this.#forgetIdentity(entry)
  }

  remove (entry: OutboxEntry): void {
    this.#byNumber.delete(entry.number)
    if (this.#byMessageId.get(entry.messageId) === entry) this.#byMessageId.delete(entry.messageId)
    this.#forgetIdentity(entry)
  }

  /** A packet identifier that no entry has, the wanted one if it is free [MQTT-2.3.1-2]. The queue's bound leaves some. */
  freeMessageId (wanted: number): number {
    let messageId = wanted
    while (this.#byMessageId.has(messageId)) messageId = messageId >= 65_535 ? 1 : messageId + 1
    return messageId
  }

  /** In the order they were queued. */
  inOrder (): OutboxEntry[] {
    return [...this.#byNumber.values()].sort((a, b) => a.number - b.number)
  }

  #forgetIdentity (entry: OutboxEntry): void {
    const identity = identityOf(entry.brokerCounter, entry.brokerHash)
    if (this.#byIdentity.get(identity) === entry) this.#byIdentity.delete(identity)
  }
}
